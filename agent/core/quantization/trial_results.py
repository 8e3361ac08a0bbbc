"""Which of two INT8 graphs is better, judged on the few frames of a trial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.records import Fidelity

_DOUBT = 0.2  # of resamples against it; a wrong choice between near equals costs little
_LUCK = 0.05  # a difference of the metric that chance makes more often decides nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What one INT8 graph shows on the frames of a trial.

    Attributes:
        fidelity: To FP32; None if outputs are not finite.
        agreement_by_frame: The task's metric on each frame alone, 0..1, NaN where FP32 sees nothing;
            empty without a metric.
        resampled_db: `sqnr_db` over resamples of the frames, the same in all results of as many.
    """

    fidelity: Fidelity | None
    agreement_by_frame: tuple[float, ...] = ()
    resampled_db: tuple[float, ...] = ()

    @property
    def sqnr_db(self) -> float:
        """Return the SQNR of the worst group of channels, dB, to compare; -inf if not finite."""
        if self.fidelity is None:
            return -math.inf
        return math.inf if self.fidelity.sqnr_db is None else self.fidelity.sqnr_db

    def __str__(self) -> str:
        agreement = self.fidelity.agreement if self.fidelity else None
        words = f"{self.sqnr_db:.1f} dB"
        return words if agreement is None else f"{words} and agreement {agreement:.3f}"


def agrees_more(one: TrialResult, other: TrialResult) -> bool:
    """Return True if a graph agrees with FP32 on more frames than another, beyond chance.

    A sign test over the frames on which the two differ: with 4 of them or fewer nothing is decided,
    of 5 all must be better, of 8 seven, of 20 fifteen. A trial has 8 to 64 frames, so that the
    difference of two shares alone would often be one undecided frame; but both graphs saw the same
    frames, and so few are enough. It needs no distribution of the metric, which may be 0 or 1 per
    frame (a class) or a share (an overlap).

    Source: Dixon and Mood, "The Statistical Sign Test" (JASA 41, 1946).
    """
    pairs = zip(one.agreement_by_frame, other.agreement_by_frame, strict=False)
    differ = [a > b for a, b in pairs if a > b or a < b]  # NaN is neither
    count, better = len(differ), sum(differ)
    as_many = sum(math.comb(count, k) for k in range(better, count + 1))
    return as_many <= _LUCK * float(2**count)


def is_better(one: TrialResult, other: TrialResult) -> bool:
    """Return True if a graph is better than another on the same frames.

    The task's metric decides where it can. Where the task has none, or too few frames differ in
    it (saturated, or FP32 sees nothing), SQNR by groups of channels decides.
    """
    if agrees_more(one, other) or agrees_more(other, one):
        return agrees_more(one, other)
    return one.sqnr_db > other.sqnr_db


def is_decided(one: TrialResult, other: TrialResult) -> bool:
    """Return True if more frames would hardly change which of two graphs is better.

    Either the task's metric decides, or nearly all resamples of the frames agree on which has the
    higher SQNR. Both graphs saw the same frames, so the difference is far less noisy than each.
    """
    if one.fidelity is None or other.fidelity is None:
        return True
    if agrees_more(one, other) or agrees_more(other, one):
        return True
    pairs = list(zip(one.resampled_db, other.resampled_db, strict=False))
    better = sum(a > b for a, b in pairs)
    worse = sum(a < b for a, b in pairs)
    return min(better, worse) <= _DOUBT * len(pairs) < max(better, worse)


def best_of(results: Mapping[str, TrialResult]) -> str:
    """Return the name of the best graph: of the highest SQNR, unless another agrees more."""
    chosen, *others = sorted(results, key=lambda name: -results[name].sqnr_db)
    for name in others:
        if agrees_more(results[name], results[chosen]):
            chosen = name
    return chosen
