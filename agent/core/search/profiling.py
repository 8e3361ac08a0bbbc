"""Which engines are profiled after the choice."""

from __future__ import annotations

from collections.abc import Sequence

from agent.core.records import Candidate, Engine


def to_profile(
    candidates: Sequence[Candidate], chosen: str | None
) -> tuple[dict[str, Engine], dict[str, str]]:
    """Return the engines to profile, by candidate id, and the id of FP32 for each of the others.

    These are the chosen one, the fastest in INT8, and FP32 of their batch and power mode.
    """
    measured = [one for one in candidates if one.measurement and not one.failure]
    best = [one for one in measured if one.id == chosen]
    integer = [one for one in measured if one.recipe.precision.startswith("int8")]
    if integer and not any(one.id == chosen for one in integer):
        best.append(min(integer, key=_p50_ms))
    baselines: dict[str, str] = {}
    found: dict[str, Engine] = {}
    for one in best or measured[:1]:
        baseline = next((other for other in measured if other.is_baseline_of(one)), None)
        found |= {two.id: two.engine for two in (baseline, one) if two and two.engine}
        if baseline and baseline is not one:
            baselines[one.id] = baseline.id
    return found, baselines


def _p50_ms(one: Candidate) -> float:
    return one.measurement.latency_ms.p50 if one.measurement else float("inf")
