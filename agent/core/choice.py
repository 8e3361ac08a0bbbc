"""Which candidate is best under the limits, and why every other one is not.

Pure and numpy-free, because the daemon chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agent.core.limits import Known, Violation, doubts, power_counts, power_reason, told, violations
from agent.core.lineage import Candidate, Choice, Verdict

_ONE_ROUND = 0.05  # as far as several may drift apart and be called steady
_POWER_NOISE = 0.01
"""Share of a mean power that is not told apart from noise: one step of the INA3221 (40 uV over
5 mOhm at 5 V is 40 mW, its data sheet SBOS576) at the 4 W of a small board."""
_NEEDS_POWER = {"energy", "power"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    unit: str
    worse: str
    equal: str
    better: str


_WORDS = {
    "latency": _Words(unit="ms", worse="slower than", equal="as fast as", better="faster than"),
    "energy": _Words(
        unit="J", worse="needs more energy than", equal="needs the energy of",
        better="needs less energy than",
    ),
    "power": _Words(
        unit="W", worse="draws more power than", equal="draws the power of",
        better="draws less power than",
    ),
    "throughput": _Words(
        unit="FPS", worse="less throughput than", equal="the throughput of",
        better="more throughput than",
    ),
}  # fmt: skip


def choose(candidates: Sequence[Candidate], objective: str, limits: Mapping[str, float]) -> Choice:
    """Choose the best candidate that keeps every limit.

    Args:
        candidates: All of them, measured or failed; their order does not matter.
        objective: latency (p50 of one inference), energy, power (lowest wins) or throughput
            (highest wins).
        limits: By the names of the configuration; 0 or absent is no limit.

    Returns:
        The choice, a verdict with reasons for every candidate, and the Pareto front over
        latency, energy where it is known, fidelity, memory and the objective. Nothing feasible
        is an answer: `infeasible` with the nearest miss. Ties inside the noise go to higher
        fidelity, if that differs beyond its own noise, then to less memory; a number flagged
        throttled or unsteady wins only where no other is feasible, one that was left out of the
        last rounds only where no other was measured to the end, and a candidate that another
        feasible one beats in everything never does.
    """
    ordered = sorted(candidates, key=lambda c: c.id)
    counts = power_counts(objective, limits)
    known = {c.id: k for c in ordered if (k := _known(c, counts)) is not None}
    broken = {c.id: _broken(c, known.get(c.id), objective, limits) for c in ordered}
    front = _front(list(known.values()), objective)
    feasible = [k for k in known.values() if not broken[k.id]]
    if not feasible:
        return _flagged(_infeasible(broken, objective, front), known)
    sound = [k for k in feasible if not k.flags]
    finished = [k for k in feasible if not k.measurement.behind]
    ties = _ties(sound or finished or feasible, objective)
    best = ties[0]
    verdicts = {
        c.id: Verdict(verdict="rejected", reasons=tuple(v.reason for v in broken[c.id]))
        for c in ordered
    }
    verdicts |= {k.id: _verdict(k, ties, objective, front) for k in feasible}
    for k in feasible:
        notes = tuple(f"note: {doubt}" for doubt in doubts(k, limits))
        verdicts[k.id] = replace(verdicts[k.id], reasons=(*verdicts[k.id].reasons, *notes))
    chosen = Choice(
        candidate=best.id,
        objective=objective,
        why=_why(best, known, objective),
        pareto=front,
        verdicts=verdicts,
        infeasible=False,
        nearest_miss=None,
    )
    return _flagged(chosen, known)


def _flagged(choice: Choice, known: Mapping[str, Known]) -> Choice:
    """Put the flags of every number that was measured beside its verdict."""
    verdicts = dict(choice.verdicts)
    for name, one in known.items():
        told_already = verdicts[name].verdict != "rejected"
        verdicts[name] = replace(
            verdicts[name],
            reasons=(*verdicts[name].reasons, *(() if told_already else one.flags)),
            flags=one.flags,
        )
    return replace(choice, verdicts=verdicts)


def _known(candidate: Candidate, power_counts: bool) -> Known | None:
    if candidate.failure or candidate.measurement is None or candidate.evaluation is None:
        return None
    return Known(
        candidate=candidate,
        measurement=candidate.measurement,
        evaluation=candidate.evaluation,
        power_counts=power_counts,
    )


def _broken(
    candidate: Candidate, known: Known | None, objective: str, limits: Mapping[str, float]
) -> tuple[Violation, ...]:
    if known is None:
        missing = "measured" if candidate.measurement is None else "compared with FP32"
        return (Violation(reason=candidate.failure or f"it was not {missing}"),)
    found = violations(known, limits)
    if objective in _NEEDS_POWER and _cost(known, objective) is None:
        reason = f"the objective is {objective}, which is not known here: {power_reason(known)}"
        return (*found, Violation(reason=reason))
    return found


def _cost(known: Known, objective: str) -> float | None:
    """Return the objective as a number of which less is better; None where not measured."""
    if objective == "throughput":
        return -known.measurement.throughput_fps
    if objective == "energy":
        return known.energy_j
    if objective == "power":
        return known.power_w
    return known.measurement.latency_ms.p50


def _sure(known: Known, objective: str) -> float:
    cost = _cost(known, objective)
    return float("inf") if cost is None else cost


def _interval(known: Known, objective: str) -> tuple[float, float]:
    """Return between which costs a candidate may lie, from 95 % intervals.

    Throughput from p50's: its cost is negative, so a shorter time is a lower cost there as well.
    """
    cost = _sure(known, objective)
    if objective == "power":
        below, above = _widths(known.power_w, known.power.ci95 if known.power else None)
    elif objective == "energy":
        below, above = _widths(known.energy_j, known.energy_ci95_j)
    else:
        latency = known.measurement.latency_ms
        span = latency.ci95_p50
        below, above = _shares(latency.p50, span) if span else (_ONE_ROUND, _ONE_ROUND)
    return cost - abs(cost) * below, cost + abs(cost) * above


def _costs_more(one: Known, other: Known, objective: str) -> bool:
    """Return whether one costs more than another beyond the noise.

    Where both were measured in every round, their ratio tells: what moved a round moved both.
    """
    ratio = one.measurement.against.get(other.id)
    if ratio is None or objective in _NEEDS_POWER:
        return _interval(one, objective)[0] > _interval(other, objective)[1]
    frames = one.candidate.batch / other.candidate.batch if objective == "throughput" else 1.0
    return ratio[0] > frames


def _widths(value: float | None, span: tuple[float, float] | None) -> tuple[float, float]:
    """Return how far below and above a power may lie as shares of it, one step of a sensor at least."""
    below, above = _shares(value or 0.0, span) if span else (0.0, 0.0)
    return max(below, _POWER_NOISE), max(above, _POWER_NOISE)


def _shares(value: float, span: tuple[float, float]) -> tuple[float, float]:
    return ((value - span[0]) / value, (span[1] - value) / value) if value else (0.0, 0.0)


def _ties(sound: Sequence[Known], objective: str) -> list[Known]:
    """Return those that may be the best for all that is known, the preferred one first."""
    open_ = [k for k in sound if not any(_dominates(other, k, objective) for other in sound)]
    leader = min(open_, key=lambda k: (_sure(k, objective), k.id))
    ties = [k for k in open_ if not _costs_more(k, leader, objective)]
    floor_db = _alike_db(ties)
    return sorted(
        ties,
        key=lambda k: (
            k.sqnr_db < floor_db,
            _memory_mb(k),
            _size(k),
            -k.sqnr_db,
            _sure(k, objective),
            k.id,
        ),
    )


def _alike_db(ties: Sequence[Known]) -> float:
    """Return the SQNR down to which candidates are not told apart from the most faithful one."""
    most = max(ties, key=lambda k: (k.sqnr_db, k.id))
    span = most.evaluation.fidelity.sqnr_db_ci95
    return min(span[0], most.sqnr_db) if span else most.sqnr_db


def _memory_mb(known: Known) -> float:
    """Return the memory to order by; where it is not known it is nobody's merit."""
    found = known.evaluation.memory_mb
    return float("inf") if found is None else found


def _size(known: Known) -> int:
    return known.candidate.engine.size_bytes if known.candidate.engine else 0


def _axes(known: Known, objective: str) -> tuple[float | None, ...]:
    """Return what candidates are weighed by, less is better; None where not known."""
    return (
        _cost(known, objective),
        known.measurement.latency_ms.p50,
        known.energy_j,
        -known.sqnr_db,
        known.evaluation.memory_mb,
    )


def _dominates(one: Known, other: Known, objective: str) -> bool:
    """Return True if one is nowhere worse and somewhere better, by what is known of both."""
    pairs = [
        (a, b)
        for a, b in zip(_axes(one, objective), _axes(other, objective), strict=True)
        if a is not None and b is not None
    ]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _front(known: Sequence[Known], objective: str) -> tuple[str, ...]:
    return tuple(k.id for k in known if not any(_dominates(d, k, objective) for d in known))


def _verdict(known: Known, ties: Sequence[Known], objective: str, front: Sequence[str]) -> Verdict:
    best = ties[0]
    if known is best:
        flags = tuple(f"note: {flag}" for flag in known.flags)
        return Verdict(verdict="chosen", reasons=(f"best {objective} within the limits", *flags))
    words = _WORDS[objective]
    mine, its = abs(_sure(known, objective)), abs(_sure(best, objective))
    against = f"{best.id} ({told(mine, its)} {words.unit} against {told(its, mine)} {words.unit})"
    cheaper = _sure(known, objective) <= _sure(best, objective)
    if known.flags and not best.flags and cheaper:
        reason = f"{words.better} {against}, but its numbers are doubtful"
    elif _costs_more(known, best, objective):
        apart = _interval(known, objective)[0] > _interval(best, objective)[1]
        reason = f"{words.worse} {against}{'' if apart else ', round by round'}"
    elif merit := _merit(ties, known):
        reason = f"{words.equal} {against} inside the noise, and {merit}"
    else:
        reason = f"{words.worse} {against}, if only inside the noise"
    front_note = ("on the Pareto front",) if known.id in front else ()
    return Verdict(verdict="feasible", reasons=(reason, *known.flags, *front_note))


def _merit(ties: Sequence[Known], known: Known) -> str:
    """Say why the best goes before one that may be as good, in the order of `_ties`."""
    best = ties[0]
    if known.sqnr_db < _alike_db(ties):
        return f"{best.id} is nearer to FP32"
    if known not in ties and known.sqnr_db > best.sqnr_db:  # something else goes before it
        return ""
    if _memory_mb(best) < _memory_mb(known):
        return f"{best.id} needs less memory"
    if _size(best) < _size(known):
        return f"{best.id} is the smaller file"
    if best.sqnr_db > known.sqnr_db:
        return f"{best.id} is nearer to FP32, if only inside the noise"
    return f"{best.id} comes first" if known in ties else ""


def _why(best: Known, known: Mapping[str, Known], objective: str) -> str:
    cost = abs(_sure(best, objective))
    text = (
        f"{best.id} has the best {objective} within the limits: "
        f"{told(cost, 0.0)} {_WORDS[objective].unit}"
    )
    baseline = next(
        (
            k
            for k in known.values()
            if k.candidate.recipe.precision == "fp32"
            and k.candidate.batch == best.candidate.batch
            and k.candidate.power_mode == best.candidate.power_mode
        ),
        None,
    )
    if baseline is not None and baseline is not best:
        theirs = _cost(baseline, objective)
        if theirs is not None:
            text += f" against {told(abs(theirs), cost)} {_WORDS[objective].unit} of {baseline.id}"
            text += ", whose numbers are doubtful" if baseline.flags and not best.flags else ""
        sqnr_db = best.evaluation.fidelity.sqnr_db
        text += ", with its very outputs" if sqnr_db is None else f", at {sqnr_db:.1f} dB SQNR"
    return text + "".join(f"; note: {flag}" for flag in best.flags)


def _infeasible(
    broken: Mapping[str, Sequence[Violation]], objective: str, front: tuple[str, ...]
) -> Choice:
    misses = [
        (sum(v.excess for v in found), name)
        for name, found in broken.items()
        if all(v.loosened is not None for v in found)
    ]
    nearest = min(misses)[1] if misses else None
    if nearest:
        loosen = " and ".join(_loosening(v) for v in broken[nearest])
        why = f"no candidate keeps all limits; {nearest} would with {loosen}"
    else:
        reasons = list(dict.fromkeys(v.reason for found in broken.values() for v in found))
        why = "no candidate is usable: " + ("; ".join(reasons[:3]) or "there is none")
    return Choice(
        candidate=None,
        objective=objective,
        why=why,
        pareto=front,
        verdicts={
            name: Verdict(verdict="rejected", reasons=tuple(v.reason for v in found))
            for name, found in broken.items()
        },
        infeasible=True,
        nearest_miss=nearest,
    )


def _loosening(violation: Violation) -> str:
    name = f"limits.{violation.key}"
    if not violation.loosened:
        return f"{name} removed (0)"
    change = violation.loosened / violation.bound - 1
    return f"{name} at {violation.loosened:g} instead of {violation.bound:g} ({change:+.1%})"
