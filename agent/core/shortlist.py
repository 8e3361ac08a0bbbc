"""Which candidates are worth measuring when time counts: `search.strategy = "fast"`. Pure.

Nothing here is a measurement: what is left out is told with its reason and never chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agent.core.limits import power_counts
from agent.core.lineage import Candidate

_ALIKE = 2  # one might be disturbed while it is measured, which is no reason to lose INT8


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
    reasons = {c.id: _beyond(c, limits) for c in candidates if _open(c)}
    left = [c for c in candidates if c.id in reasons and not reasons[c.id]]
    reasons |= _less_faithful(left)
    left = [c for c in left if not reasons[c.id]]
    if not power_counts(objective, limits):  # else time does not say whether it can win
        reasons |= _slower(left)
    return [replace(c, failure=reasons.get(c.id, "") or c.failure) for c in candidates]


def _open(candidate: Candidate) -> bool:
    return (
        candidate.recipe.precision != "fp32"
        and not candidate.failure
        and candidate.evaluation is not None
    )


def _beyond(candidate: Candidate, limits: Mapping[str, float]) -> str:
    """Return which limit on what is known before measuring a candidate misses."""
    if candidate.evaluation is None:
        return ""
    fidelity, memory_mb = candidate.evaluation.fidelity, candidate.evaluation.memory_mb
    agreement = 1.0 if fidelity.identical else fidelity.agreement
    for key, value in (("sqnr_db", fidelity.sqnr_db), ("agreement", agreement)):
        least = limits.get(key, 0.0)
        if value is not None and least > 0 and value < least:
            return f"not measured: {key} {value:.4g} is under the limit of {least:g}"
    most_mb = limits.get("memory_mb", 0.0)
    if memory_mb is not None and 0 < most_mb < memory_mb:
        return f"not measured: memory {memory_mb:.4g} MB is over the limit of {most_mb:g} MB"
    return ""


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


def _less_faithful(candidates: Sequence[Candidate]) -> dict[str, str]:
    """Return a reason for all but the two most faithful of each kind of INT8 graph."""
    found: dict[str, str] = {}
    for ranked in _same_graphs(candidates):
        found |= {
            c.id: f"not measured: {ranked[0].id} is the same graph with other scales, and nearer to FP32"
            for c in ranked[_ALIKE:]
        }
    return {c.id: found.get(c.id, "") for c in candidates}


def _merit(candidate: Candidate) -> tuple[float, float]:
    if candidate.evaluation is None:
        return -1.0, float("-inf")
    fidelity = candidate.evaluation.fidelity
    sqnr_db = float("inf") if fidelity.sqnr_db is None else fidelity.sqnr_db
    return fidelity.agreement or 0.0, sqnr_db


def _slower(candidates: Sequence[Candidate]) -> dict[str, str]:
    """Return a reason for what was predicted to be slower than another, intervals apart.

    It must be slower by the inference and by the frame: a larger batch that is faster by the
    frame says nothing of one that keeps a limit on latency.
    """
    known = {
        c.id: (c.predicted.latency_p50_ms_ci90, c.batch)
        for c in candidates
        if c.predicted and c.predicted.latency_p50_ms_ci90
    }
    found = {}
    for name, ((low, high), batch) in known.items():
        for other, ((its_low, its_high), its_batch) in sorted(known.items()):
            if its_high < low and its_high / its_batch < low / batch:
                found[name] = (
                    f"not measured: predicted {low:.3g} to {high:.3g} ms, against "
                    f"{its_low:.3g} to {its_high:.3g} of {other}"
                )
                break
    return found
