"""Which candidate is best under the limits, and why every other one is not. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.core.lineage import Candidate, Choice, Measurement, Verdict


@dataclass(frozen=True, slots=True)
class _Limit:
    """One limit: how to read the value, which side is good, and how to say it."""

    key: str
    words: str
    unit: str
    value: Callable[[Candidate], float | None]
    missing: Callable[[Candidate], str]
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class _Violation:
    """How far a value is from its limit, relative to the limit; infinite if not measurable."""

    reason: str
    excess: float
    key: str
    needed: float | None


_INFINITE_DB = 999.0  # stands for identical outputs where a number is compared


def _measured(candidate: Candidate) -> Measurement:
    if candidate.measurement is None:
        raise AssertionError(candidate.id)  # callers look at what was measured only
    return candidate.measurement


def _power_w(candidate: Candidate) -> float | None:
    power = _measured(candidate).power
    return power.mean if power else None


def _sqnr_db(candidate: Candidate) -> float | None:
    if candidate.evaluation is None:
        return None
    fidelity = candidate.evaluation.fidelity
    return _INFINITE_DB if fidelity.identical else fidelity.sqnr_db


def _agreement(candidate: Candidate) -> float | None:
    return candidate.evaluation.fidelity.agreement if candidate.evaluation else None


def _memory_mb(candidate: Candidate) -> float | None:
    return candidate.evaluation.memory_mb if candidate.evaluation else None


def _no_power(candidate: Candidate) -> str:
    return _measured(candidate).power_reason or "power was not measured"


def _not_evaluated(_: Candidate) -> str:
    return "it was not evaluated"


_LIMITS = (
    _Limit("latency_p99_ms", "p99", "ms", lambda c: _measured(c).latency_ms.p99, _not_evaluated),
    _Limit("power_w", "power", "W", _power_w, _no_power),
    _Limit("energy_j", "energy per inference", "J", lambda c: _measured(c).energy_j, _no_power),
    _Limit("memory_mb", "memory", "MB", _memory_mb, _not_evaluated),
    _Limit("fps", "throughput", "FPS", lambda c: _measured(c).throughput_fps, _not_evaluated, True),
    _Limit("sqnr_db", "fidelity (SQNR of the worst output)", "dB", _sqnr_db, _not_evaluated, True),
    _Limit(
        "agreement",
        "agreement with FP32",
        "",
        _agreement,
        lambda _: "the task offers no agreement metric",
        True,
    ),
)


def choose(candidates: Sequence[Candidate], objective: str, limits: Mapping[str, float]) -> Choice:
    """Choose the best candidate that keeps every limit.

    Args:
        candidates: All of them, measured or failed; their order does not matter.
        objective: latency, energy, power (lowest wins) or throughput (highest wins).
        limits: By the names of the configuration; 0 or absent is no limit.

    Returns:
        The choice, a verdict with reasons for every candidate, and the Pareto front over
        latency, energy, fidelity and memory. Nothing feasible is an answer: `infeasible`
        with the nearest miss. Ties inside the noise go to higher fidelity, then to less
        memory; a number flagged throttled or unsteady wins only where no other is feasible.
    """
    ordered = sorted(candidates, key=lambda c: c.id)
    violations = {c.id: _violations(c, objective, limits) for c in ordered}
    feasible = [c for c in ordered if not violations[c.id]]
    front = _pareto([c for c in ordered if c.measurement and c.evaluation and not c.failure])
    if not feasible:
        return _infeasible(ordered, violations, objective, front)
    sound = [c for c in feasible if not _flags(c)] or feasible
    best = _best(sound, objective)
    verdicts = {c.id: _verdict(c, best, violations[c.id], objective, front) for c in ordered}
    return Choice(
        candidate=best.id,
        objective=objective,
        why=_why(best, [c for c in feasible if c is not best], objective),
        pareto=front,
        verdicts=verdicts,
        infeasible=False,
        nearest_miss=None,
    )


def _violations(
    candidate: Candidate, objective: str, limits: Mapping[str, float]
) -> list[_Violation]:
    if candidate.failure or candidate.measurement is None:
        reason = candidate.failure or "it was not measured"
        return [_Violation(reason, float("inf"), "", None)]
    found = []
    for limit in _LIMITS:
        bound = limits.get(limit.key, 0.0)
        if bound:
            found += _broken(candidate, limit, bound)
    if objective in {"energy", "power"} and candidate.measurement.power is None:
        reason = f"{objective} can't be compared: {_no_power(candidate)}"
        found.append(_Violation(reason, float("inf"), "", None))
    return found


def _broken(candidate: Candidate, limit: _Limit, bound: float) -> list[_Violation]:
    value = limit.value(candidate)
    unit = f" {limit.unit}" if limit.unit else ""
    if value is None:
        reason = f"{limit.words} has a limit of {bound:g}{unit}, but {limit.missing(candidate)}"
        return [_Violation(reason, float("inf"), limit.key, None)]
    if value >= bound if limit.at_least else value <= bound:
        return []
    side = "under" if limit.at_least else "over"
    reason = f"{limit.words} {value:.4g}{unit} is {side} the limit of {bound:g}{unit}"
    return [_Violation(reason, abs(value - bound) / bound, limit.key, value)]


def _flags(candidate: Candidate) -> list[str]:
    measurement = _measured(candidate)
    flags = [] if measurement.steady else ["its latency did not get steady"]
    return [*flags, "it throttled"] if measurement.throttled else flags


def _cost(candidate: Candidate, objective: str) -> float:
    """Return the objective as a number of which less is better."""
    measurement = _measured(candidate)
    if objective == "throughput":
        return -measurement.throughput_fps
    if objective == "energy":
        return measurement.energy_j or 0.0
    if objective == "power":
        return measurement.power.mean if measurement.power else 0.0
    return measurement.latency_ms.p50 / candidate.batch


def _noise(candidate: Candidate) -> float:
    """Return half the width of p50's confidence interval, relative to p50."""
    latency = _measured(candidate).latency_ms
    low, high = latency.ci95_p50
    return (high - low) / 2 / latency.p50 if latency.p50 else 0.0


def _best(sound: Sequence[Candidate], objective: str) -> Candidate:
    leader = min(sound, key=lambda c: _cost(c, objective))
    reach = abs(_cost(leader, objective))
    ties = [
        c
        for c in sound
        if _cost(c, objective) - _cost(leader, objective) <= reach * (_noise(c) + _noise(leader))
    ]
    return min(
        ties,
        key=lambda c: (
            -(_sqnr_db(c) or 0.0),
            _memory_mb(c) or 0.0,
            _cost(c, objective),
            c.id,
        ),
    )


def _axes(candidate: Candidate) -> tuple[float, ...]:
    """Return latency, energy, infidelity and memory, less is better; energy 0 if unknown."""
    measurement = _measured(candidate)
    return (
        measurement.latency_ms.p50 / candidate.batch,
        measurement.energy_j or 0.0,
        -(_sqnr_db(candidate) or 0.0),
        _memory_mb(candidate) or 0.0,
    )


def _dominates(one: Candidate, other: Candidate) -> bool:
    pairs = list(zip(_axes(one), _axes(other), strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _pareto(measured: Sequence[Candidate]) -> tuple[str, ...]:
    return tuple(c.id for c in measured if not any(_dominates(d, c) for d in measured))


def _verdict(
    candidate: Candidate,
    best: Candidate,
    violations: Sequence[_Violation],
    objective: str,
    front: Sequence[str],
) -> Verdict:
    if candidate is best:
        flags = tuple(f"note: {flag}" for flag in _flags(candidate))
        return Verdict(verdict="chosen", reasons=(f"best {objective} within the limits", *flags))
    if violations:
        return Verdict(verdict="rejected", reasons=tuple(v.reason for v in violations))
    reasons = [_against(candidate, best, objective), *_flags(candidate)]
    if candidate.id in front:
        reasons.append("on the Pareto front")
    return Verdict(verdict="feasible", reasons=tuple(reasons))


def _against(candidate: Candidate, best: Candidate, objective: str) -> str:
    mine, its = _worded(candidate, objective), _worded(best, objective)
    if _cost(candidate, objective) > _cost(best, objective):
        return f"{mine} against {its} of {best.id}"
    return f"{mine} against {its} of {best.id}: inside the noise, and {best.id} is more faithful"


def _worded(candidate: Candidate, objective: str) -> str:
    measurement = _measured(candidate)
    if objective == "throughput":
        return f"{measurement.throughput_fps:.1f} FPS"
    if objective == "energy" and measurement.energy_j is not None:
        return f"{measurement.energy_j * 1e3:.1f} mJ"
    if objective == "power" and measurement.power is not None:
        return f"{measurement.power.mean:.2f} W"
    return f"p50 {measurement.latency_ms.p50:.2f} ms"


def _why(best: Candidate, others: Sequence[Candidate], objective: str) -> str:
    text = f"{best.id} has the best {objective} within the limits: {_worded(best, objective)}"
    baseline = next((c for c in others if c.recipe.precision == "fp32"), None)
    if baseline is not None and objective in {"latency", "throughput"}:
        ratio = (
            _measured(baseline).latency_ms.p50 * best.batch
            / (_measured(best).latency_ms.p50 * baseline.batch)
        )  # fmt: skip
        text += f", {ratio:.2f} times as fast as {baseline.id}"
    sqnr_db = _sqnr_db(best)
    if sqnr_db is not None and sqnr_db < _INFINITE_DB:
        text += f", at {sqnr_db:.1f} dB SQNR"
    return text


def _infeasible(
    ordered: Sequence[Candidate],
    violations: Mapping[str, Sequence[_Violation]],
    objective: str,
    front: tuple[str, ...],
) -> Choice:
    misses = [
        (sum(v.excess for v in violations[c.id]), c.id)
        for c in ordered
        if all(v.needed is not None for v in violations[c.id])
    ]
    nearest = min(misses)[1] if misses else None
    if nearest:
        loosen = "; ".join(
            f"limits.{v.key} to {v.needed:.4g}" for v in violations[nearest] if v.needed is not None
        )
        why = f"no candidate keeps all limits; {nearest} would if you changed {loosen}"
    else:
        reasons = sorted({v.reason for vs in violations.values() for v in vs})
        why = "no candidate is usable: " + "; ".join(reasons[:3])
    return Choice(
        candidate=None,
        objective=objective,
        why=why,
        pareto=front,
        verdicts={
            c.id: Verdict(verdict="rejected", reasons=tuple(v.reason for v in violations[c.id]))
            for c in ordered
        },
        infeasible=True,
        nearest_miss=nearest,
    )
