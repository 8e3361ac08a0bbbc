"""The answer of a run in one sentence; page, terminal and MQTT give the same."""

from __future__ import annotations

from collections.abc import Mapping

from agent.core.records import Activation, Choice, Floor
from agent.core.report.candidates import CandidateReport
from agent.core.report.speedup import Speedup

_STATES = {"active": "is active", "unchanged": "stays active"}
_UNDONE = {
    "rolled_back": "was activated and rolled back",
    "interrupted": "was chosen, but the switch to it was interrupted",
}


def headline(
    choice: Choice,
    activation: Activation,
    speedup: Speedup,
    candidates: Mapping[str, CandidateReport],
    floor: Floor | None,
) -> str:
    """Return what is active now, how fast it is against FP32, and what it does in its task's words.

    Args:
        choice: The answer.
        activation: What became of it.
        speedup: Of the chosen candidate over FP32.
        candidates: By their ids.
        floor: The fidelity floor, which is named if it is switched off.
    """
    chosen = candidates.get(choice.candidate or "")
    if chosen is None:
        return f"Nothing fits: {choice.why}"
    if activation.state in _UNDONE:
        detail = f": {activation.detail}" if activation.detail else ""
        return f"{chosen.id} {_UNDONE[activation.state]}{detail}"
    baseline = candidates.get(speedup.over or "")
    against = (
        _best(choice, chosen) if baseline is None else _against(choice, speedup, chosen, baseline)
    )
    does = chosen.fidelity.summary if chosen.fidelity and baseline else ""
    for name in ("FP32's", "the baseline's"):
        does = does.replace(name, "its", 1)
    found = f"{chosen.id} {_STATES.get(activation.state, 'was chosen')}: {against}"
    found += f" and {does}" if does else ""
    if floor is not None and not floor.bound:
        found += f"; no fidelity floor (limits.{floor.limit} = 0)"
    return found


def _best(choice: Choice, chosen: CandidateReport) -> str:
    """Return what a candidate is best at that has nothing to be compared with."""
    value, unit = _cost(choice.objective, chosen)
    amount = "" if value is None else f", {value:.4g} {unit}"
    return f"the best {choice.objective} within the limits{amount}"


def _against(
    choice: Choice, speedup: Speedup, chosen: CandidateReport, baseline: CandidateReport
) -> str:
    """Return the speed against FP32, and what is saved of it, if that is the objective."""
    words = _speed(speedup)
    mine, its = (_cost(choice.objective, one)[0] for one in (chosen, baseline))
    if choice.objective not in {"energy", "power"} or not mine or not its:
        return words
    change = mine / its - 1
    return f"{words} with {abs(change):.0%} {'less' if change < 0 else 'more'} {choice.objective}"


def _speed(speedup: Speedup) -> str:
    if speedup.factor is None:
        return f"not compared with FP32 in speed ({speedup.reason})"
    if speedup.ci95 is None:
        return f"about {speedup.factor:.3g}x as fast as FP32"
    if not speedup.beyond_noise:
        return "as fast as FP32 within the noise"
    return f"{speedup.factor:.3g}x as fast as FP32"


def _cost(objective: str, one: CandidateReport) -> tuple[float | None, str]:
    """Return what an objective compares, with its unit; None where it is not known."""
    measured = one.measured
    if measured is None:
        return None, ""
    load = measured.at_rate or measured
    found = {
        "latency": (measured.latency_ms.p50, "ms"),
        "throughput": (measured.throughput_fps, "FPS"),
        "energy": (load.energy_j, "J"),
        "power": (load.power_w.mean if load.power_w else None, "W"),
    }
    return found.get(objective, (None, ""))
