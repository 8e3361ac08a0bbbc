"""Which candidate is best under the limits, and why every other one is not.

Pure and numpy-free, because the daemon chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agent.core.choice.limits import (
    Known,
    Violation,
    doubts,
    power_counts,
    power_reason,
    told,
    violations,
)
from agent.core.choice.objectives import (
    NEEDS_POWER,
    WORDS,
    cost_interval,
    cost_of,
    costs_more,
    known_cost,
)
from agent.core.records import Candidate, Choice, Verdict


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
    finished = [k for k in feasible if not k.measurement.eliminated]
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
    if objective in NEEDS_POWER and cost_of(known, objective) is None:
        reason = f"the objective is {objective}, which is not known here: {power_reason(known)}"
        return (*found, Violation(reason=reason))
    return found


def _ties(sound: Sequence[Known], objective: str) -> list[Known]:
    """Return those that may be the best for all that is known, the preferred one first."""
    open_ = [k for k in sound if not any(_dominates(other, k, objective) for other in sound)]
    leader = min(open_, key=lambda k: (known_cost(k, objective), k.id))
    ties = [k for k in open_ if not costs_more(k, leader, objective)]
    floor_db = _alike_db(ties)
    return sorted(
        ties,
        key=lambda k: (
            k.sqnr_db < floor_db,
            _memory_mb(k),
            _size(k),
            -k.sqnr_db,
            known_cost(k, objective),
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
        cost_of(known, objective),
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
    words = WORDS[objective]
    mine, its = abs(known_cost(known, objective)), abs(known_cost(best, objective))
    against = f"{best.id} ({told(mine, its)} {words.unit} against {told(its, mine)} {words.unit})"
    cheaper = known_cost(known, objective) <= known_cost(best, objective)
    if known.flags and not best.flags and cheaper:
        reason = f"{words.better} {against}, but its numbers are doubtful"
    elif costs_more(known, best, objective):
        apart = cost_interval(known, objective)[0] > cost_interval(best, objective)[1]
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
    cost = abs(known_cost(best, objective))
    text = (
        f"{best.id} has the best {objective} within the limits: "
        f"{told(cost, 0.0)} {WORDS[objective].unit}"
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
        theirs = cost_of(baseline, objective)
        if theirs is not None:
            text += f" against {told(abs(theirs), cost)} {WORDS[objective].unit} of {baseline.id}"
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
