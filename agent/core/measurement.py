"""From raw times to the numbers a choice is made on, and the order in which they are taken."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.core.lineage import Latency

_RESAMPLES = 1000
_BLOCKS_PER_ROUND = 8
_SKETCH = 512
_DRIFT = 0.05  # halves that differ by more than this are not the same regime


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


def percentile(ordered: NDArray[np.int64], share: float) -> int:
    """Return the nearest-rank percentile of sorted samples (ns), as MLPerf LoadGen does."""
    return int(ordered[max(0, int(np.ceil(share * ordered.size)) - 1)])


def summarize(rounds_ns: Sequence[NDArray[np.int64]], seed: int) -> Latency:
    """Reduce the rounds of one candidate to percentiles with the confidence of p50.

    Args:
        rounds_ns: Wall time per inference for each round, ns, in the order taken.
        seed: For the bootstrap.

    Returns:
        ms; nearest-rank percentiles; the 95 % interval of p50 is a block bootstrap over
        consecutive inferences, since neighbours are not independent.

    Source: Kunsch, "The Jackknife and the Bootstrap for General Stationary Observations"
        (Annals of Statistics 17, 1989).
    """
    everything = np.concatenate(list(rounds_ns))
    ordered = np.sort(everything)
    p50, p90, p99 = (percentile(ordered, share) for share in (0.50, 0.90, 0.99))
    low, high = _median_interval(rounds_ns, seed)
    return Latency(
        p50=p50 / 1e6,
        p90=p90 / 1e6,
        p99=p99 / 1e6,
        ci95_p50=(min(low, p50) / 1e6, max(high, p50) / 1e6),
        mean=float(everything.mean()) / 1e6,
    )


def _median_interval(rounds_ns: Sequence[NDArray[np.int64]], seed: int) -> tuple[float, float]:
    blocks = [
        block
        for one in rounds_ns
        for block in np.array_split(one, min(_BLOCKS_PER_ROUND, max(1, one.size)))
        if block.size
    ]
    source = np.random.default_rng(seed)
    medians = np.empty(_RESAMPLES)
    for index in range(_RESAMPLES):
        picked = source.integers(0, len(blocks), len(blocks))
        medians[index] = np.median(np.concatenate([blocks[i] for i in picked]))
    low, high = np.quantile(medians, (0.025, 0.975))
    return float(low), float(high)


def steady(rounds_ns: Sequence[NDArray[np.int64]]) -> bool:
    """Return False if the later half of the rounds differs from the earlier by over 5 %.

    Compares medians, which single slow inferences do not move.
    """
    half = len(rounds_ns) // 2
    if half == 0:
        only = rounds_ns[0]
        early, late = only[: only.size // 2], only[only.size // 2 :]
    else:
        early, late = (np.concatenate(list(part)) for part in (rounds_ns[:half], rounds_ns[half:]))
    if not early.size or not late.size:
        return False
    before, after = float(np.median(early)), float(np.median(late))
    return abs(after - before) <= _DRIFT * min(before, after)


def sketch(rounds_ns: Sequence[NDArray[np.int64]]) -> tuple[float, ...]:
    """Return up to 512 evenly spaced order statistics in ms, for plots."""
    ordered = np.sort(np.concatenate(list(rounds_ns)))
    places = np.linspace(0, ordered.size - 1, min(_SKETCH, ordered.size)).round().astype(int)
    return tuple(float(value) / 1e6 for value in ordered[places])


def settled(recent_ns: Sequence[int]) -> bool:
    """Return True once warm-up may end: the last third is within 2 % of the third before it."""
    third = len(recent_ns) // 3
    if third < 3:
        return False
    before = float(np.median(recent_ns[-2 * third : -third]))
    after = float(np.median(recent_ns[-third:]))
    return abs(after - before) <= 0.02 * before
