"""How many times as fast one engine is as another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.records import Candidate, Latency

Span = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedup:
    """The p50 of another engine over that of the chosen one, of an inference of the same batch.

    Attributes:
        over: The other one's candidate; None if there is none to compare with.
        factor: More than 1 is faster; None if it is not known.
        reason: Why it is not known; else "".
        ci95: 95 % interval of the factor.
        paired: True if it is from the rounds that both were measured in, where what disturbed one
            disturbed the other; False if it is from the interval of each, which is wider.
        ci95_reason: Why there is no interval; else "".
    """

    over: str | None
    factor: float | None = None
    reason: str = ""
    ci95: Span | None = None
    paired: bool = False
    ci95_reason: str = ""

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval excludes 1, at which both are equally fast."""
        return self.ci95 is not None and not self.ci95[0] <= 1 <= self.ci95[1]


def over_baseline(chosen: Candidate | None, candidates: Sequence[Candidate]) -> Speedup:
    """Return the speed-up of the chosen candidate over FP32 of the same batch and power mode."""
    if chosen is None:
        return unknown("nothing was chosen")
    if chosen.recipe.is_baseline:
        return unknown(f"{chosen.id} is what the others are compared with")
    baseline = next((one for one in candidates if one.is_baseline_of(chosen)), None)
    if baseline is None:
        return unknown("FP32 is no candidate of the same batch and power mode")
    return over(chosen, baseline)


def over(one: Candidate, other: Candidate) -> Speedup:
    """Return the speed-up of one candidate over another one of the same run."""
    if one.measurement is None or other.measurement is None:
        missing = one if one.measurement is None else other
        why = f": {missing.failure}" if missing.failure else ""
        return unknown(f"{missing.id} was not measured{why}", over=other.id)
    ratio = other.measurement.p50_ratio_ci95.get(one.id)
    found = apart(other.id, one.measurement.latency_ms, other.measurement.latency_ms)
    if ratio is None:
        return found
    return Speedup(over=other.id, factor=found.factor, ci95=ratio, paired=True)


def apart(name: str, now: Latency, other: Latency) -> Speedup:
    """Return the speed-up over a latency that was measured in other rounds.

    Args:
        name: Of the other candidate.
        now: Of the candidate.
        other: Of the other one.
    """
    if not (now.p50 > 0 and other.p50 > 0):
        return unknown("a p50 of 0 ms has no ratio", over=name)
    factor = other.p50 / now.p50
    if now.ci95_p50 is None or other.ci95_p50 is None or now.ci95_p50[0] <= 0:
        reason = now.ci95_reason or other.ci95_reason or "an interval reaches down to 0 ms"
        return Speedup(over=name, factor=factor, ci95_reason=reason)
    span = other.ci95_p50[0] / now.ci95_p50[1], other.ci95_p50[1] / now.ci95_p50[0]
    return Speedup(over=name, factor=factor, ci95=span)


def unknown(reason: str, *, over: str | None = None) -> Speedup:
    """Return a speed-up that is not known."""
    return Speedup(over=over, reason=reason)
