"""Which candidates are worth making and measuring when time counts: `search.strategy = "fast"`.

Nothing here is a measurement: what is left out is told with its reason and never chosen, and a
choice that then looks doubtful is made again from everybody. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agent.core.choice.limits import Judged, Violation, foreseen, power_counts
from agent.core.records import Candidate, Choice, Measurement, Power

LIMIT, SCALES, PREDICTION = "limit", "scales", "prediction"
_ALIKE = 2  # one might be disturbed while it is measured, which is no reason to lose INT8

_Reasons = Mapping[str, tuple[str, str]]
"""By candidate: why it is left out, as `Candidate.left_out` and in words."""


def wave(
    pending: Sequence[Candidate], objective: str, limits: Mapping[str, float]
) -> tuple[list[Candidate], list[Candidate]]:
    """Return who is made next, the fastest by prediction first, and who may wait for them.

    FP32 waits for nobody, and nobody waits where time does not say who wins. Who waits is
    predicted to be slower than one of the others, intervals apart.

    Args:
        pending: With their predictions.
        objective: latency, energy, power or throughput.
        limits: By the names of the configuration; 0 or absent is no limit.
    """
    open_ = [c for c in pending if not c.failure]
    slower = {} if power_counts(objective, limits) else _slower(open_, open_)
    waiting = [c for c in pending if c.id in slower and c.recipe.precision != "fp32"]
    now = [c for c in pending if c not in waiting]
    return sorted(now, key=_expected), waiting


def _expected(candidate: Candidate) -> tuple[bool, float]:
    """Return what orders the builds: the baseline first, the unknown last."""
    told = candidate.predicted.latency_p50_ms if candidate.predicted else None
    return candidate.recipe.precision != "fp32", float("inf") if told is None else told


def worth_making(
    pending: Sequence[Candidate],
    judged: Sequence[Candidate],
    objective: str,
    limits: Mapping[str, float],
) -> list[Candidate]:
    """Return the pending candidates, left out those that one of the others rules out.

    Args:
        pending: Not made yet.
        judged: Evaluated; one that is not known to keep the limits on fidelity and memory rules
            nobody out.
        objective: latency, energy, power or throughput.
        limits: By the names of the configuration; 0 or absent is no limit.
    """
    if power_counts(objective, limits):
        return list(pending)
    able = [c for c in judged if not c.failure and _keeps(c, limits)]
    return _left_out(pending, _slower([c for c in pending if not c.failure], able))


def shortlist(
    candidates: Sequence[Candidate], objective: str, limits: Mapping[str, float]
) -> list[Candidate]:
    """Return the candidates, those that need no measurement with the reason as failure.

    The FP32 baseline always stays. Left out are: what misses a limit on fidelity or memory,
    both known by now; of graphs that differ in their scales only, all but the two most faithful;
    and what was predicted to be slower than another, intervals apart.

    Args:
        candidates: Evaluated, in any order.
        objective: latency, energy, power or throughput.
        limits: By the names of the configuration; 0 or absent is no limit.
    """
    open_ = [c for c in candidates if _open(c)]
    reasons: dict[str, tuple[str, str]] = {
        c.id: (LIMIT, reason) for c in open_ if (reason := _beyond(c, limits))
    }
    reasons |= _less_faithful([c for c in open_ if c.id not in reasons])
    if not power_counts(objective, limits):  # else time does not say whether it can win
        left = [c for c in open_ if c.id not in reasons]
        reasons |= _slower(left, [c for c in left if _keeps(c, limits)])
    return _left_out(candidates, reasons)


def doubtful(
    candidates: Sequence[Candidate], choice: Choice, objective: str, limits: Mapping[str, float]
) -> bool:
    """Return whether a fast search's choice must be made again from everybody.

    So it is where nothing is feasible, since a candidate that was not measured is nobody's
    nearest miss; where the chosen one was not measured to the end; and where it turned out
    slower than what was left out for it was predicted to be at best. Where power decides and
    nothing tells it, everybody would tell no more.

    Args:
        candidates: As measured or left out.
        choice: That was made from them.
        objective: latency, energy, power or throughput.
        limits: By the names of the configuration; 0 or absent is no limit.
    """
    measured = [c.measurement for c in candidates if c.measurement]
    if measured and power_counts(objective, limits) and not any(map(_power, measured)):
        return False
    passed_over = [
        c for c in candidates if c.left_out or (c.measurement and c.measurement.eliminated)
    ]
    if not passed_over or choice.infeasible:
        return bool(passed_over)
    best = next(c for c in candidates if c.id == choice.candidate)
    if best.measurement is None or best.measurement.eliminated:
        return True
    found_ms = _by(objective, best.measurement.latency_ms.p50, best.batch)
    return any(
        _by(objective, c.predicted.latency_p50_ms_ci90[0], c.batch) < found_ms
        for c in passed_over
        if c.left_out == PREDICTION and c.predicted and c.predicted.latency_p50_ms_ci90
    )


def _power(measured: Measurement) -> Power | None:
    """Return what the choice is made on: that at the application's frame rate, where it was asked."""
    return (measured.at_rate or measured).power_w


def _by(objective: str, latency_ms: float, batch: int) -> float:
    return latency_ms / batch if objective == "throughput" else latency_ms


def _left_out(candidates: Sequence[Candidate], reasons: _Reasons) -> list[Candidate]:
    return [
        replace(c, left_out=reasons[c.id][0], failure=reasons[c.id][1]) if c.id in reasons else c
        for c in candidates
    ]


def _open(candidate: Candidate) -> bool:
    return (
        candidate.recipe.precision != "fp32"
        and not candidate.failure
        and candidate.evaluation is not None
    )


def _beyond(candidate: Candidate, limits: Mapping[str, float]) -> str:
    """Return which limit on what is known before measuring a candidate misses."""
    missed = _foreseen(candidate, limits)
    return next((f"not measured: {one.reason}" for one in missed if one.key), "")


def _keeps(candidate: Candidate, limits: Mapping[str, float]) -> bool:
    """Return whether a candidate is known to keep what `_beyond` looks at."""
    return candidate.evaluation is not None and not _foreseen(candidate, limits)


def _foreseen(candidate: Candidate, limits: Mapping[str, float]) -> tuple[Violation, ...]:
    judged = candidate.evaluation
    return foreseen(Judged(evaluation=judged), limits) if judged else ()


def spares(candidates: Sequence[Candidate]) -> dict[str, str]:
    """Return who need be measured only while another, of other scales, is disturbed: that other."""
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
        sorted(alike, key=lambda c: (*_merit(c), c.id), reverse=True) for alike in kinds.values()
    ]


def _less_faithful(candidates: Sequence[Candidate]) -> _Reasons:
    """Return a reason for all but the two most faithful of each kind of INT8 graph."""
    return {
        c.id: (
            SCALES,
            f"not measured: {ranked[0].id} is the same graph with other scales, and nearer to FP32",
        )
        for ranked in _same_graphs(candidates)
        for c in ranked[_ALIKE:]
    }


def _merit(candidate: Candidate) -> tuple[float, float]:
    if candidate.evaluation is None:
        return -1.0, float("-inf")
    fidelity = candidate.evaluation.fidelity
    sqnr_db = float("inf") if fidelity.sqnr_db is None else fidelity.sqnr_db
    return fidelity.agreement or 0.0, sqnr_db


def _slower(candidates: Sequence[Candidate], others: Sequence[Candidate]) -> _Reasons:
    """Return a reason for what was predicted to be slower than another, intervals apart.

    It must be slower by the inference and by the frame: a larger batch that is faster by the
    frame says nothing of one that keeps a limit on latency.
    """
    found = {}
    for one in candidates:
        for other in sorted(others, key=lambda c: c.id):
            if (mine := _span(one)) and (its := _span(other)) and _apart(mine, its, one, other):
                found[one.id] = (
                    PREDICTION,
                    f"not {'measured' if one.engine else 'built'}: predicted {mine[0]:.3g} to "
                    f"{mine[1]:.3g} ms, against {its[0]:.3g} to {its[1]:.3g} of {other.id}",
                )
                break
    return found


def _span(candidate: Candidate) -> tuple[float, float] | None:
    return candidate.predicted.latency_p50_ms_ci90 if candidate.predicted else None


def _apart(
    mine: tuple[float, float], its: tuple[float, float], one: Candidate, other: Candidate
) -> bool:
    return its[1] < mine[0] and its[1] / other.batch < mine[0] / one.batch
