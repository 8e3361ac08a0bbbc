"""Which candidates are worth making and measuring when time counts: `search.strategy = "fast"`.

Nothing here is a measurement: what is left out is reported with its reason and never chosen, and
a choice that then looks doubtful is made again from all candidates. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agent.core.choice.candidates import EvaluatedCandidate
from agent.core.choice.limits import Bounds, Violation, foreseeable_violations
from agent.core.choice.requirements import Requirements
from agent.core.records import Candidate, Choice

LIMIT, SCALES, PREDICTION = "limit", "scales", "prediction"
_ALIKE = 2  # one might be disturbed while it is measured, which is no reason to lose INT8

_Reasons = Mapping[str, tuple[str, str]]
"""By candidate: why it is left out, as `Candidate.left_out` and in words."""


def wave(
    pending: Sequence[Candidate], requirements: Requirements
) -> tuple[list[Candidate], list[Candidate]]:
    """Split pending candidates into build-now, the fastest by prediction first, and deferred.

    Deferred are those predicted to be slower than another, intervals apart. The baseline is never
    deferred, and where latency does not decide nothing is.

    Args:
        pending: With their predictions.
        requirements: The objective and the limits.
    """
    open_ = [c for c in pending if not c.failure]
    slower = _slower(open_, open_) if requirements.latency_decides else {}
    deferred = [c for c in pending if c.id in slower and not c.recipe.is_baseline]
    now = [c for c in pending if c not in deferred]

    def order(candidate: Candidate) -> tuple[bool, float]:  # the baseline first, the unknown last
        guess_ms = candidate.predicted.latency_p50_ms if candidate.predicted else None
        return not candidate.recipe.is_baseline, float("inf") if guess_ms is None else guess_ms

    return sorted(now, key=order), deferred


def worth_making(
    pending: Sequence[Candidate], evaluated: Sequence[Candidate], requirements: Requirements
) -> list[Candidate]:
    """Return the pending candidates, those that an evaluated one rules out with the reason.

    Args:
        pending: Not made yet.
        evaluated: Those that are known to keep the limits on fidelity and memory rule others out.
        requirements: The objective and the limits.
    """
    if not requirements.latency_decides:
        return list(pending)
    able = [c for c in evaluated if not c.failure and _keeps(c, requirements.limits)]
    return _left_out(pending, _slower([c for c in pending if not c.failure], able))


def shortlist(candidates: Sequence[Candidate], requirements: Requirements) -> list[Candidate]:
    """Return the candidates, those that need no measurement with the reason as failure.

    The baseline always stays. Left out are: what misses a limit on fidelity or memory,
    both known by now; of graphs that differ in their scales only, all but the two most faithful;
    and what was predicted to be slower than another, intervals apart.

    Args:
        candidates: Evaluated, in any order.
        requirements: The objective and the limits.
    """
    open_ = [c for c in candidates if _open(c)]
    reasons = {
        c.id: (LIMIT, f"not measured: {missed[0].reason}")
        for c in open_
        if (missed := [one for one in _violations(c, requirements.limits) if one.key])
    }
    reasons |= {
        c.id: (
            SCALES,
            f"not measured: {ranked[0].id} is the same graph with other scales, and nearer to FP32",
        )
        for ranked in _same_graphs([c for c in open_ if c.id not in reasons])
        for c in ranked[_ALIKE:]
    }
    if requirements.latency_decides:
        left = [c for c in open_ if c.id not in reasons]
        reasons |= _slower(left, [c for c in left if _keeps(c, requirements.limits)])
    return _left_out(candidates, reasons)


def doubtful(candidates: Sequence[Candidate], choice: Choice, requirements: Requirements) -> bool:
    """Return whether a fast search's choice must be made again from all candidates.

    It must where nothing is feasible, since a candidate that was not measured can't be the
    nearest miss; where the chosen one was not measured to the end; and where it turned out slower
    than the prediction's lower bound of a candidate that was left out for it. It need not where
    power decides and no candidate's power is known: measuring the others would not change that.

    Args:
        candidates: As measured or left out.
        choice: The one made from them.
        requirements: The objective and the limits.
    """
    measured = [c.measurement for c in candidates if c.measurement]
    blind = not any((one.at_rate or one).power_w for one in measured)
    if measured and requirements.power_decides and blind:
        return False
    passed_over = [
        c for c in candidates if c.left_out or (c.measurement and c.measurement.eliminated)
    ]
    if not passed_over or choice.infeasible:
        return bool(passed_over)
    best = next(c for c in candidates if c.id == choice.candidate)
    if best.measurement is None or best.measurement.eliminated:
        return True
    frames = requirements.objective.frames
    if frames is None:  # then nothing was left out for its latency
        return False
    found_ms = best.measurement.latency_ms.p50 / frames(best.batch)
    return any(
        c.predicted.latency_p50_ms_ci90[0] / frames(c.batch) < found_ms
        for c in passed_over
        if c.left_out == PREDICTION and c.predicted and c.predicted.latency_p50_ms_ci90
    )


def _left_out(candidates: Sequence[Candidate], reasons: _Reasons) -> list[Candidate]:
    return [
        replace(c, left_out=reasons[c.id][0], failure=reasons[c.id][1]) if c.id in reasons else c
        for c in candidates
    ]


def _open(candidate: Candidate) -> bool:
    return (
        not candidate.recipe.is_baseline
        and not candidate.failure
        and candidate.evaluation is not None
    )


def _violations(candidate: Candidate, bounds: Bounds) -> tuple[Violation, ...]:
    if candidate.evaluation is None:
        return ()
    one = EvaluatedCandidate(candidate=candidate, evaluation=candidate.evaluation)
    return foreseeable_violations(one, bounds)


def _keeps(candidate: Candidate, bounds: Bounds) -> bool:
    """Return whether a candidate is known to keep the limits on fidelity and memory."""
    return candidate.evaluation is not None and not _violations(candidate, bounds)


def same_graph_alternatives(candidates: Sequence[Candidate]) -> dict[str, str]:
    """Return by candidate the preferred one of the same graph with other scales.

    It need be measured only while the preferred one is disturbed.
    """
    return {
        one.id: ranked[0].id
        for ranked in _same_graphs([c for c in candidates if _open(c)])
        for one in ranked[1:]
    }


def _same_graphs(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Return the INT8 graphs that differ in their scales only, the most faithful of each first."""
    kinds: dict[object, list[Candidate]] = {}
    for one in candidates:
        if one.recipe.precision == "int8":
            kinds.setdefault((one.batch, one.power_mode, one.dla_core), []).append(one)
    return [
        sorted(alike, key=lambda c: (*_faithfulness(c), c.id), reverse=True)
        for alike in kinds.values()
    ]


def _faithfulness(candidate: Candidate) -> tuple[float, float]:
    if candidate.evaluation is None:
        return -1.0, float("-inf")
    fidelity = candidate.evaluation.fidelity
    sqnr_db = float("inf") if fidelity.sqnr_db is None else fidelity.sqnr_db
    return fidelity.agreement or 0.0, sqnr_db


def _slower(candidates: Sequence[Candidate], others: Sequence[Candidate]) -> _Reasons:
    """Return a reason for what was predicted to be slower than another, intervals apart.

    It must be slower per inference and per frame: a larger batch that is faster per frame may
    break a limit on latency that the smaller one keeps.
    """
    found = {}
    for one in candidates:
        for other in sorted(others, key=lambda c: c.id):
            mine, its = _span(one), _span(other)
            if not mine or not its or its[1] >= mine[0]:
                continue
            if its[1] / other.batch < mine[0] / one.batch:
                found[one.id] = (
                    PREDICTION,
                    f"not {'measured' if one.engine else 'built'}: predicted {mine[0]:.3g} to "
                    f"{mine[1]:.3g} ms, against {its[0]:.3g} to {its[1]:.3g} of {other.id}",
                )
                break
    return found


def _span(candidate: Candidate) -> tuple[float, float] | None:
    return candidate.predicted.latency_p50_ms_ci90 if candidate.predicted else None
