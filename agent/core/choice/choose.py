"""Which candidate is best under the limits, and why every other one is not.

Pure and numpy-free, because the daemon chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.core.choice.candidates import MeasuredCandidate
from agent.core.choice.limits import Violation, doubts, format_distinct, violations
from agent.core.choice.objectives import Objective
from agent.core.choice.requirements import Requirements
from agent.core.records import Candidate, Choice, Verdict


def choose(candidates: Sequence[Candidate], requirements: Requirements) -> Choice:
    """Choose the best candidate that keeps every limit.

    Args:
        candidates: All of them, measured or failed; their order does not matter.
        requirements: The objective and the limits.

    Returns:
        The choice, a verdict with reasons for every candidate, and the Pareto front over
        latency, energy where it is known, fidelity, memory and the objective. Nothing feasible
        is an answer: `infeasible` with the nearest miss. Ties inside the noise go to higher
        fidelity, if that differs beyond its own noise, then to less memory; a number flagged
        throttled or unsteady wins only where no other is feasible, one that was left out of the
        last rounds only where no other was measured to the end, and a candidate that another
        feasible one beats in everything never does.
    """
    objective = requirements.objective
    ordered = sorted(candidates, key=lambda c: c.id)
    measured = {
        c.id: MeasuredCandidate(
            candidate=c,
            measurement=c.measurement,
            evaluation=c.evaluation,
            power_decides=requirements.power_decides,
        )
        for c in ordered
        if c.measurement and c.evaluation and not c.failure
    }
    broken = {c.id: _broken(c, measured.get(c.id), requirements) for c in ordered}
    verdicts = {}
    for name, found in broken.items():
        flags = measured[name].flags if name in measured else ()
        reasons = (*(violation.reason for violation in found), *flags)
        verdicts[name] = Verdict(verdict="rejected", reasons=reasons, flags=flags)
    known = list(measured.values())
    front = tuple(k.id for k in known if not any(_dominates(o, k, objective) for o in known))
    feasible = [k for k in measured.values() if not broken[k.id]]
    if not feasible:
        return _infeasible(broken, verdicts, objective, front)
    sound = [k for k in feasible if not k.flags]
    finished = [k for k in feasible if not k.measurement.eliminated]
    ties = _ties(sound or finished or feasible, objective)
    verdicts |= {k.id: _verdict(k, ties, requirements, front) for k in feasible}
    return Choice(
        candidate=ties[0].id,
        objective=objective.key,
        why=_why(ties[0], measured, objective) + _without_floor(ties[0], requirements),
        pareto=front,
        verdicts=verdicts,
        infeasible=False,
        nearest_miss=None,
    )


def _broken(
    candidate: Candidate, one: MeasuredCandidate | None, requirements: Requirements
) -> tuple[Violation, ...]:
    if one is None:
        missing = "measured" if candidate.measurement is None else "compared with FP32"
        return (Violation(reason=candidate.failure or f"it was not {missing}"),)
    found = violations(one, requirements.limits)
    objective = requirements.objective
    if objective.value(one) is None:
        why = one.power_reason if objective.needs_power else "it was not measured"
        reason = f"the objective is {objective.key}, which is not known here: {why}"
        return (*found, Violation(reason=reason))
    return found


def _ties(sound: Sequence[MeasuredCandidate], objective: Objective) -> list[MeasuredCandidate]:
    """Return the candidates that may be the best within the noise, the preferred one first."""
    open_ = [k for k in sound if not any(_dominates(other, k, objective) for other in sound)]
    leader = min(open_, key=lambda k: (objective.cost(k), k.id))
    ties = [k for k in open_ if not objective.costs_more(k, leader)]
    floor_db = _alike_db(ties)
    return sorted(
        ties,
        key=lambda k: (
            k.sqnr_db < floor_db,
            _memory_mb(k),
            _size(k),
            -k.sqnr_db,
            objective.cost(k),
            k.id,
        ),
    )


def _alike_db(ties: Sequence[MeasuredCandidate]) -> float:
    """Return the SQNR from which candidates count as faithful as the most faithful one."""
    most = max(ties, key=lambda k: (k.sqnr_db, k.id))
    span = most.evaluation.fidelity.sqnr_db_ci95
    return min(span[0], most.sqnr_db) if span else most.sqnr_db


def _memory_mb(one: MeasuredCandidate) -> float:
    """Return the memory to order by; unknown memory sorts last."""
    found = one.evaluation.memory_mb
    return float("inf") if found is None else found


def _size(one: MeasuredCandidate) -> int:
    return one.candidate.engine.size_bytes if one.candidate.engine else 0


def _axes(one: MeasuredCandidate, objective: Objective) -> tuple[float | None, ...]:
    """Return what the Pareto front weighs, less is better; None where not known."""
    return (
        None if objective.value(one) is None else objective.cost(one),
        one.measurement.latency_ms.p50,
        one.under_load.energy_j,
        -one.sqnr_db,
        one.evaluation.memory_mb,
    )


def _dominates(one: MeasuredCandidate, other: MeasuredCandidate, objective: Objective) -> bool:
    """Return whether one is nowhere worse and somewhere better, by what is known of both."""
    pairs = [
        (a, b)
        for a, b in zip(_axes(one, objective), _axes(other, objective), strict=True)
        if a is not None and b is not None
    ]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _verdict(
    one: MeasuredCandidate,
    ties: Sequence[MeasuredCandidate],
    requirements: Requirements,
    front: Sequence[str],
) -> Verdict:
    best, objective = ties[0], requirements.objective
    notes = tuple(f"note: {doubt}" for doubt in doubts(one, requirements.limits))
    if one is best:
        flags = tuple(f"note: {flag}" for flag in one.flags)
        reasons = (f"best {objective.key} within the limits", *flags, *notes)
        return Verdict(verdict="chosen", reasons=reasons, flags=one.flags)
    mine, its = abs(objective.cost(one)), abs(objective.cost(best))
    figures = (
        f"{best.id} ({format_distinct(mine, its)} {objective.unit} against "
        f"{format_distinct(its, mine)} {objective.unit})"
    )
    if one.flags and not best.flags and objective.cost(one) <= objective.cost(best):
        reason = f"{objective.better} {figures}, but its numbers are doubtful"
    elif objective.costs_more(one, best):
        apart = objective.interval(one)[0] > objective.interval(best)[1]
        reason = f"{objective.worse} {figures}{'' if apart else ', round by round'}"
    elif advantage := _advantage(ties, one):
        reason = f"{objective.equal} {figures} inside the noise, and {advantage}"
    else:
        reason = f"{objective.worse} {figures}, if only inside the noise"
    front_note = ("on the Pareto front",) if one.id in front else ()
    reasons = (reason, *one.flags, *front_note, *notes)
    return Verdict(verdict="feasible", reasons=reasons, flags=one.flags)


def _advantage(ties: Sequence[MeasuredCandidate], one: MeasuredCandidate) -> str:
    """Return why the best is preferred to one that may be as good, in the order of `_ties`."""
    best = ties[0]
    if one.sqnr_db < _alike_db(ties):
        return f"{best.id} is nearer to FP32"
    if one not in ties and one.sqnr_db > best.sqnr_db:  # something else decides before fidelity
        return ""
    if _memory_mb(best) < _memory_mb(one):
        return f"{best.id} needs less memory"
    if _size(best) < _size(one):
        return f"{best.id} is the smaller file"
    if best.sqnr_db > one.sqnr_db:
        return f"{best.id} is nearer to FP32, if only inside the noise"
    return f"{best.id} comes first" if one in ties else ""


def _why(
    best: MeasuredCandidate, measured: Mapping[str, MeasuredCandidate], objective: Objective
) -> str:
    cost = abs(objective.cost(best))
    text = (
        f"{best.id} has the best {objective.key} within the limits: "
        f"{format_distinct(cost, 0.0)} {objective.unit}"
    )
    baseline = next(
        (k for k in measured.values() if k.candidate.is_baseline_of(best.candidate)), None
    )
    if baseline is not None and baseline is not best:
        theirs = objective.value(baseline)
        if theirs is not None:
            text += f" against {format_distinct(theirs, cost)} {objective.unit} of {baseline.id}"
            text += ", whose numbers are doubtful" if baseline.flags and not best.flags else ""
        sqnr_db = best.evaluation.fidelity.sqnr_db
        text += ", with its very outputs" if sqnr_db is None else f", at {sqnr_db:.1f} dB SQNR"
    if best.candidate.recipe.alone:
        text += "; the file was quantized already and no FP32 can be made of it to compare with"
    return text + "".join(f"; note: {flag}" for flag in best.flags)


def _without_floor(best: MeasuredCandidate, requirements: Requirements) -> str:
    """Return what the chosen one does in the task's words, where the fidelity floor is off."""
    floor = requirements.floor
    if floor is None or floor.bound:
        return ""
    does = best.evaluation.fidelity.summary
    return f"; no fidelity floor (limits.{floor.limit} = 0): it {does}"


def _infeasible(
    broken: Mapping[str, Sequence[Violation]],
    verdicts: Mapping[str, Verdict],
    objective: Objective,
    front: tuple[str, ...],
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
        objective=objective.key,
        why=why,
        pareto=front,
        verdicts=verdicts,
        infeasible=True,
        nearest_miss=nearest,
    )


def _loosening(violation: Violation) -> str:
    name = f"limits.{violation.key}"
    if not violation.loosened:
        return f"{name} removed (0)"
    change = violation.loosened / violation.bound - 1
    return f"{name} at {violation.loosened:g} instead of {violation.bound:g} ({change:+.1%})"
