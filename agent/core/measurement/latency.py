"""From raw times to the numbers a choice is made on, and the order in which they are taken."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations
from math import ceil, exp, floor, hypot, log, sqrt

import numpy as np
from numpy.typing import NDArray

from agent.core.records import Latency

_NORMAL = 1.959964  # of the standard normal, 97.5 percent
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_ROUNDS_FOR_A_LINE = 4
_TAIL_RUNS = 368  # 0.99^368 = 2.5 %: of fewer, the slowest is too often faster than p99
_LOOKED_AT, _LAGS, _UNRELATED = 4096, 200, 0.05  # so that a million runs cost no more
_SKETCH = 512
DRIFT = 0.05  # first and last round further apart than this are not the same regime
_DISTURBED = 0.10  # a single round is allowed more, since five rounds give five chances
SETTLED = 0.02
_FLAT_C_PER_S = 1 / 30
_DOUBT = 2.0  # standard errors within which a slope of temperatures is the sensor's noise
_SIGMAS = 3.0


def schedule(candidates: Sequence[str], rounds: int, seed: int) -> list[list[str]]:
    """Return the order of candidates in each round, shuffled so that drift hits all alike.

    Args:
        candidates: Their ids.
        rounds: How often each is visited.
        seed: The same seed gives the same order.
    """
    source = random.Random(seed)
    order = []
    for _ in range(rounds):
        one = list(candidates)
        source.shuffle(one)
        order.append(one)
    return order


def percentile(ordered: NDArray[np.int64], percent: int) -> int:
    """Return the nearest-rank percentile of sorted samples (ns).

    Integers all the way: 0.07 * 100 is 7.000000000000001, whose ceiling is the wrong rank.
    """
    return int(ordered[max(0, -(-percent * ordered.size // 100) - 1)])


def summarize(rounds_ns: Sequence[NDArray[np.int64]]) -> Latency:
    """Reduce the rounds of one candidate to percentiles and how well they are known.

    Args:
        rounds_ns: Wall time per inference for each round, ns, in the order taken; none empty.

    Returns:
        ms; nearest-rank percentiles; 95 % intervals of p50 and p99, None of too few rounds or
        runs.
    """
    everything = np.concatenate(list(rounds_ns))
    ordered = np.sort(everything)
    p50, p90, p99 = (percentile(ordered, percent) / 1e6 for percent in (50, 90, 99))
    levels = [max(float(np.median(one)), 1.0) for one in rounds_ns]
    worth = _effective_runs(ordered, rounds_ns)
    return Latency(
        p50=p50,
        p90=p90,
        p99=p99,
        ci95_p50=interval(p50, levels),
        ci95_p99=None if worth < _TAIL_RUNS else _p99_ci95(p99, levels, ordered, worth),
        ci95_reason=_interval_reason(len(levels), ordered.size, worth),
    )


def _interval_reason(rounds: int, runs: int, worth: float) -> str:
    """Return why an interval is None; "" if none is."""
    if rounds < 2:
        return "of a single round"
    if worth < _TAIL_RUNS:
        alike = f", worth {worth:.0f} independent ones" if worth < 0.9 * runs else ""
        return f"p99 of {runs} runs only{alike}, while its interval takes {_TAIL_RUNS}"
    return ""


def interval(middle: float, levels: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of a figure of which each round gave one observation.

    Rounds are the independent observations: each has its own temperature and neighbours, and
    inferences within one are not independent. Five rounds make Student's t with few degrees of
    freedom; a bootstrap of so few covers 74 to 91 % where it promises 95.

    Args:
        middle: The figure, that of all rounds.
        levels: That of each round, in the order taken; all positive.

    Returns:
        Student's t on their logarithms, around `middle`; None with fewer than two rounds.

    Source: checked against processes with drift, levels, autocorrelation and bursts by
        `make bench-measure`.
    """
    if len(levels) < 2 or min(levels) <= 0.0:
        return None
    width = _half_width(np.asarray(levels, np.float64))
    return middle * exp(-width), middle * exp(width)


def _half_width(levels: NDArray[np.float64]) -> float:
    """Return half the interval's width, as a logarithm.

    From four rounds on, a drift is no noise: rounds in turn, evenly spaced, give the level in
    the middle of it whatever its slope, so what counts is how they scatter around their line.

    Source: the standard error of a regression at the mean of its abscissa (Draper and Smith,
        "Applied Regression Analysis", 1998, 1.4).
    """
    logs, count = np.log(levels), levels.size
    if count < _ROUNDS_FOR_A_LINE:
        return _student(count - 1) * float(logs.std(ddof=1)) / sqrt(count)
    at = np.arange(count) - (count - 1) / 2
    slope = float(at @ logs) / float(at @ at)
    scatter = float(np.square(logs - logs.mean() - slope * at).sum()) / (count - 2)
    return _student(count - 2) * sqrt(scatter / count)


def _p99_ci95(
    p99: float, levels: Sequence[float], ordered: NDArray[np.int64], worth: float
) -> tuple[float, float] | None:
    """Return the 95 % interval of p99: how the rounds differ, and how few runs are that slow.

    Args:
        p99: In ms.
        levels: Median of each round.
        ordered: All runs, sorted.
        worth: How many independent ones they are as good as, `_TAIL_RUNS` at least.

    Source: binomial interval of order statistics (Conover, "Practical Nonparametric
        Statistics", 1999, 3.2).
    """
    is_level = interval(1.0, levels)
    if is_level is None:
        return None
    share, count = 0.99, ordered.size
    reach = _NORMAL * sqrt(share * (1 - share) / worth)
    low = ordered[max(0, floor((share - reach) * count) - 1)]
    high = ordered[min(count, ceil(min(share + reach, 1.0) * count)) - 1]
    middle = max(float(percentile(ordered, 99)), 1.0)
    below, above = log(middle / max(float(low), 1.0)), log(max(float(high), 1.0) / middle)
    width = log(is_level[1])
    return p99 * exp(-hypot(width, below)), p99 * exp(hypot(width, above))


def _effective_runs(ordered: NDArray[np.int64], rounds_ns: Sequence[NDArray[np.int64]]) -> float:
    """Return how many independent runs the tail is worth: slow ones come in bursts.

    Products of all rounds are added before they are divided: a burst in one of five is all that
    the tail is made of, and would count a fifth as the mean of five rounds' times.

    Source: n over the integrated autocorrelation time (Sokal, "Monte Carlo Methods in
        Statistical Mechanics", 1997), of the indicator of the slowest tenth.
    """
    threshold = percentile(ordered, 90)
    slow = [(one[:_LOOKED_AT] > threshold).astype(float) for one in rounds_ns]
    slow = [one - one.mean() for one in slow]
    power = float(np.square(np.concatenate(slow)).mean())
    time = 1.0
    for lag in range(1, min(max(one.size for one in slow) // 4, _LAGS)):
        products = np.concatenate([one[:-lag] * one[lag:] for one in slow])
        alike = float(products.mean()) / power if power else 0.0
        if alike < _UNRELATED:
            break
        time += 2 * alike
    return ordered.size / time


def _student(freedom: int) -> float:
    """Return the 97.5 percent point of Student's t.

    Source: tables up to 10 degrees of freedom; beyond, the expansion of Abramowitz and Stegun
        26.7.5 to the first order, within 0.2 %.
    """
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    return _NORMAL + (_NORMAL**3 + _NORMAL) / (4 * freedom)


def _order_statistics(ordered: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return `count` evenly spaced order statistics, smallest and largest among them."""
    places = np.linspace(0, ordered.size - 1, min(count, ordered.size)).round().astype(np.intp)
    spaced: NDArray[np.int64] = ordered[places]
    return spaced


def steady(rounds_ns: Sequence[NDArray[np.int64]]) -> bool:
    """Return False if latency drifted over the rounds, or too many of them were disturbed.

    Rounds are judged by their medians, which single slow inferences do not move. A drift is the
    Theil-Sen line's rise from first to last over 5 %; a round is disturbed when it is over 10 %
    from the middle one, which one round in five may be: another process's burst moves neither
    p50 nor the line. Both count only beyond three standard errors, so that a few noisy runs are
    not taken for a drift. A single round is split in parts.

    Args:
        rounds_ns: Wall time per inference for each round, ns, in the order taken; none empty.

    Source: Sen, "Estimates of the Regression Coefficient Based on Kendall's Tau" (JASA 63, 1968).
    """
    rounds = list(rounds_ns)
    if len(rounds) == 1:
        if rounds[0].size < 2:
            return False
        rounds = np.array_split(rounds[0], min(5, rounds[0].size))
    medians = [float(np.median(one)) for one in rounds]
    middle = float(np.median(medians))
    noise = _SIGMAS * float(np.hypot(*[np.median([_median_error(one) for one in rounds])] * 2))
    slopes = [(b - a) / (j - i) for (i, a), (j, b) in combinations(enumerate(medians), 2)]
    rise = float(np.median(slopes)) * (len(rounds) - 1)
    off = sum(abs(one - middle) > max(_DISTURBED * middle, noise) for one in medians)
    return abs(rise) <= max(DRIFT * middle, noise) and off <= len(rounds) // 5


def _median_error(samples: NDArray[np.int64]) -> float:
    """Return the standard error of the median, its scatter taken from the MAD.

    Source: 1.2533 sigma / sqrt(n) for normal noise (Kenney and Keeping, "Mathematics of
        Statistics", 1962); sigma = 1.4826 MAD (Rousseeuw and Croux, JASA 88, 1993).
    """
    deviation = float(np.median(np.abs(samples - np.median(samples))))
    return 1.2533 * 1.4826 * deviation / float(np.sqrt(samples.size))


def sketch(rounds_ns: Sequence[NDArray[np.int64]]) -> tuple[float, ...]:
    """Return up to 512 evenly spaced order statistics in ms, for plots."""
    ordered = np.sort(np.concatenate(list(rounds_ns)))
    return tuple(float(value) / 1e6 for value in _order_statistics(ordered, _SKETCH))


def is_level(slices: Sequence[NDArray[np.int64]], *, within: float = SETTLED) -> bool:
    """Return True once warm-up may end, as far as latency is concerned.

    Args:
        slices: Times of the warm-up so far, ns, none empty.
        within: How far the medians of the last three may lie apart, as a share, where their
            noise does not explain more.
    """
    last = slices[-3:]
    if len(last) < 3:
        return False
    medians = sorted(float(np.median(one)) for one in last)
    noise = _SIGMAS * sqrt(2) * float(np.median([_median_error(one) for one in last]))
    return medians[2] - medians[0] <= max(within * medians[1], noise)


def warmed_up(slices: Sequence[NDArray[np.int64]]) -> bool:
    """Return whether a warm-up that had to end was level, but for what counts as a drift.

    A slow candidate fills it with a slice or two, whose runs are then judged in three parts.

    Args:
        slices: As for `is_level`, one at least, of three runs together at least.
    """
    enough = slices if len(slices) >= 3 else np.array_split(np.concatenate(list(slices)), 3)
    return is_level(enough, within=DRIFT)


def gets_warmer(readings: Sequence[tuple[float, float]]) -> bool:
    """Return whether the machine still gets warmer at the end of warm-up.

    Args:
        readings: (s, deg C) in order of time; the later half is judged, of three at least.
    """
    return _rises(readings[-max(3, (len(readings) + 1) // 2) :])


def _rises(readings: Sequence[tuple[float, float]]) -> bool:
    """Return True if a temperature rises by over 1 deg C in 30 s, beyond the noise of (s, deg C).

    Source: the slope of least squares and its standard error (Draper and Smith, "Applied
        Regression Analysis", 1998, 1.4). Zones have steps of 0.5 or 1 deg C on most machines.
    """
    if len(readings) < 3:
        return False
    at, temps = np.array(readings).T
    at, temps = at - at.mean(), temps - temps.mean()
    spread = float(at @ at)
    if spread == 0.0:
        return False
    slope = float(at @ temps) / spread
    left = float(np.square(temps - slope * at).sum()) / (len(readings) - 2)
    return slope - _DOUBT * sqrt(left / spread) > _FLAT_C_PER_S
