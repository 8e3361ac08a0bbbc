"""From raw times to the numbers a choice is made on, and the order in which they are taken."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from agent.core.lineage import Latency

_RESAMPLES = 1000
_BLOCKS_PER_ROUND = 8
_BLOCK_SKETCH = 256  # a block's own order statistics stand for it, so a million runs cost no more
_SKETCH = 512
_DRIFT = 0.05  # first and last round further apart than this are not the same regime
_DISTURBED = 0.10  # a single round is allowed more, since five rounds give five chances
_SETTLED = 0.02
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


def summarize(rounds_ns: Sequence[NDArray[np.int64]], seed: int) -> Latency:
    """Reduce the rounds of one candidate to percentiles with the confidence of p50.

    Args:
        rounds_ns: Wall time per inference for each round, ns, in the order taken; none empty.
        seed: For the bootstrap.

    Returns:
        ms; nearest-rank percentiles; the 95 % interval of p50 is a two-stage bootstrap: rounds
        are drawn with replacement, since each has its own temperature and neighbours, and in
        each of them blocks of consecutive inferences, since those are not independent either.

    Source: Davison and Hinkley, "Bootstrap Methods and their Application" (1997), section 3.8
        (hierarchical data); Kunsch, "The Jackknife and the Bootstrap for General Stationary
        Observations" (Annals of Statistics 17, 1989) for blocks.
    """
    everything = np.concatenate(list(rounds_ns))
    ordered = np.sort(everything)
    p50, p90, p99 = (percentile(ordered, percent) for percent in (50, 90, 99))
    low, high = _median_interval(rounds_ns, seed)
    return Latency(
        p50=p50 / 1e6,
        p90=p90 / 1e6,
        p99=p99 / 1e6,
        ci95_p50=(min(low, p50) / 1e6, max(high, p50) / 1e6),
        mean=float(everything.mean()) / 1e6,
    )


def _median_interval(rounds_ns: Sequence[NDArray[np.int64]], seed: int) -> tuple[float, float]:
    """Return the bootstrap's 2.5 and 97.5 percent points of the median.

    How often a block is drawn is all that matters, and that is multinomial: each resample is
    then a weighted median over samples that were sorted once.
    """
    source = np.random.default_rng(seed)
    drawn = source.multinomial(len(rounds_ns), [1 / len(rounds_ns)] * len(rounds_ns), _RESAMPLES)
    blocks, weights = [], []
    for one, times in zip(rounds_ns, drawn.T, strict=True):
        parts = np.array_split(one, min(_BLOCKS_PER_ROUND, one.size))
        blocks += [_thinned(part) for part in parts]
        weights.append(source.multinomial(times * len(parts), [1 / len(parts)] * len(parts)))
    weight = np.concatenate(weights, axis=1)
    samples = np.concatenate(blocks)
    order = np.argsort(samples, kind="stable")
    block_of = np.repeat(np.arange(len(blocks)), [block.size for block in blocks])[order]
    medians = np.empty(_RESAMPLES)
    for index, row in enumerate(weight):
        seen = np.cumsum(row[block_of])
        medians[index] = samples[order[np.searchsorted(seen, (seen[-1] + 1) // 2)]]
    low, high = np.quantile(medians, (0.025, 0.975))
    return float(low), float(high)


def _thinned(block: NDArray[np.int64]) -> NDArray[np.int64]:
    return block if block.size <= _BLOCK_SKETCH else _spaced(np.sort(block), _BLOCK_SKETCH)


def _spaced(ordered: NDArray[np.int64], count: int) -> NDArray[np.int64]:
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
    return abs(rise) <= max(_DRIFT * middle, noise) and off <= len(rounds) // 5


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
    return tuple(float(value) / 1e6 for value in _spaced(ordered, _SKETCH))


def settled(medians_ns: Sequence[float]) -> bool:
    """Return True once warm-up may end: the last three slices agree within 2 %.

    Args:
        medians_ns: Median latency of each slice of the warm-up so far, ns.
    """
    last = sorted(medians_ns[-3:])
    return len(last) == 3 and last[2] - last[0] <= _SETTLED * last[1]
