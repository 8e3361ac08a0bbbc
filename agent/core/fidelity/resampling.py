"""95 % intervals of figures over frames."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from math import floor, isfinite, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
"""How often each frame was drawn, shape (resamples, frames)."""
Statistic = Callable[[Counts], NDArray[np.float64]]
"""Returns the figure for each resample, shape (resamples,); NaN if it is undefined."""

_RESAMPLES = 1000
_AT_ONCE = 1_000_000  # counts in memory, 8 MB
_SEED = 20240229  # the same frames give the same interval
LEAST_FRAMES = 8
"""Fewer don't show how much frames differ."""
_Z95 = NormalDist().inv_cdf(0.975)


def bootstrap_ci95(
    statistic: Statistic, frames: int, judged: int | None = None
) -> tuple[float, float] | None:
    """Return the 95 % bootstrap interval of a figure over frames.

    Frames are drawn by multinomial counts. With few frames wider percentiles are used, since the
    usual ones give too narrow intervals. The interval is valid for frames like these: of the
    captured window, not of another day.

    Args:
        statistic: The figure, given how often each frame counts.
        frames: Number of frames.
        judged: Number of those that show something; None for all. The interval is as wide as that
            of so many frames.

    Returns:
        None with fewer than 8 frames judged, if most resamples have no figure, or if an end is infinite.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13; the
        expanded percentile interval: Hesterberg, "What Teachers Should Know About the Bootstrap"
        (The American Statistician 69, 2015).
    """
    judged = frames if judged is None else judged
    if judged < LEAST_FRAMES:
        return None
    values = resampled(statistic, frames)
    known = values[~np.isnan(values)]
    if 2 * known.size < values.size:
        return None
    tail = _tail_probability(judged)
    low, high = np.quantile(known, (tail, 1 - tail), method="nearest")
    return (float(low), float(high)) if isfinite(low) and isfinite(high) else None


def resampled(statistic: Statistic, frames: int) -> NDArray[np.float64]:
    """Return a figure for each resample of the frames, the same resamples for as many frames.

    So the figures of two engines on the same frames can be compared resample by resample.
    """
    return np.concatenate([statistic(counts) for counts in _frame_counts(frames)])


def share_ci95(share: float, frames: int) -> tuple[float, float] | None:
    """Return the 95 % interval of the share of frames that agree (Wilson).

    Args:
        share: Observed, 0..1.
        frames: Number of frames; None is returned for fewer than 8.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference"
        (JASA 22, 1927).
    """
    if frames < LEAST_FRAMES:
        return None
    spread = _Z95**2 / frames
    middle = (share + spread / 2) / (1 + spread)
    half = sqrt(spread * share * (1 - share) + spread**2 / 4) / (1 + spread)
    low, high = middle - half, middle + half
    return min(max(low, 0.0), share), max(min(high, 1.0), share)  # rounding may cross the share


def agreement_ci95(
    statistic: Statistic, value: float, frames: int, judged: int
) -> tuple[float, float] | None:
    """Return the 95 % interval of an agreement 0..1.

    The bootstrap fails for 0 and 1, since all resamples are equal: 32 of 32 frames in full agreement
    are compatible with one in ten that is not. These are treated as a share of frames.

    Args:
        statistic: As for `bootstrap_ci95`.
        value: Over all frames.
        frames: Number of frames.
        judged: Number of those that show something.
    """
    if value in (0.0, 1.0):
        return share_ci95(value, judged)
    found = bootstrap_ci95(statistic, frames, judged)
    return None if found is None else (min(found[0], value), max(found[1], value))


def as_floats(values: array[int] | array[float]) -> NDArray[np.float64]:
    """Return counts per frame as float64."""
    return np.asarray(values, np.float64)


def resampled_ratio(counts: Counts, part: array[int], whole: array[int]) -> NDArray[np.float64]:
    """Return part / whole, both summed over frames, for each resample; NaN of nothing."""
    total = counts @ as_floats(whole)
    found: NDArray[np.float64] = np.divide(
        counts @ as_floats(part), total, out=np.full(len(counts), np.nan), where=total > 0
    )
    return found


def percent(share: float) -> str:
    """Return a share in words, rounded down: 0.9996 is not 100 %."""
    return f"{floor(round(1000 * share, 6)) / 10:g} %"


def each_frame_once(frames: int) -> Counts:
    """Return the counts of one resample with every frame once."""
    return np.ones((1, frames))


def _frame_counts(frames: int) -> Iterator[Counts]:
    source = np.random.default_rng(_SEED)
    chances = np.full(frames, 1 / frames)
    at_once = max(1, min(_RESAMPLES, _AT_ONCE // frames))
    for begin in range(0, _RESAMPLES, at_once):
        size = min(at_once, _RESAMPLES - begin)
        yield source.multinomial(frames, chances, size).astype(np.float64)


def _tail_probability(frames: int) -> float:
    """Return the probability below the interval: 0.025 for very many frames, less for few.

    Source: Hesterberg as above; Student's t from the normal quantile by the Cornish-Fisher
        expansion, Abramowitz and Stegun 26.7.5.
    """
    n, z = frames - 1, _Z95
    t = z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    return NormalDist().cdf(-t * sqrt(frames / n))
