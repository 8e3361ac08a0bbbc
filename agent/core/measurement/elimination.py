"""Which candidates go into the next round of measuring: those that can still win.

Eliminated candidates are re-admitted if the leader is disturbed later or breaks a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agent.core.measurement.latency import percentile
from agent.core.records import Timing

_LEAST_ROUNDS = 2
_BASELINE_ROUNDS = 3  # so that INT8's speed-up has a meaningful interval
_MARGIN = 0.05  # a drift that hits candidates unlike is no reason to drop one

RoundsNs = Mapping[str, Sequence[NDArray[np.int64]]]


def within_limits(
    rounds_ns: RoundsNs, batches: Mapping[str, int], keeps: Callable[[Timing], bool]
) -> frozenset[str]:
    """Return the candidates that keep the limits on latency and throughput so far.

    Args:
        rounds_ns: Wall time per inference of each round so far, by candidate.
        batches: Frames per inference, by candidate.
        keeps: Whether what was measured keeps the limits.
    """
    kept = set()
    for name, rounds in rounds_ns.items():
        ordered = np.sort(np.concatenate(list(rounds))) if rounds else np.zeros(0, np.int64)
        if not ordered.size:
            continue
        timing = Timing(
            p99_ms=percentile(ordered, 99) / 1e6,
            throughput_fps=1e9 * batches[name] / max(float(ordered.mean()), 1.0),
        )
        if keeps(timing):
            kept.add(name)
    return frozenset(kept)


def survivors(
    rounds_ns: RoundsNs,
    frames: Mapping[str, int],
    baselines: Collection[str],
    alternatives: Mapping[str, str],
    able: Collection[str],
) -> frozenset[str]:
    """Return the candidates to measure on: those whose best round comes near the leader's worst.

    Only one that keeps the limits can lead; without one, all stay. An alternative is dropped
    once the candidate that is preferred to it has shown even rounds.

    Args:
        rounds_ns: Wall time per inference of each round so far, by candidate.
        frames: Frames per inference that count, by candidate: the batch if throughput is wanted,
            1 for latency.
        baselines: Candidates that stay for three rounds whatever happens.
        alternatives: By candidate the one of the same graph that is preferred to it.
        able: The candidates that keep the limits so far.

    Source: Jamieson and Talwalkar, "Non-stochastic Best Arm Identification" (AISTATS 2016) for
        dropping between rounds; here by the range of the rounds and not by half, since fidelity
        and not chance must decide a tie.
    """
    if min((len(rounds) for rounds in rounds_ns.values()), default=0) < _LEAST_ROUNDS:
        return frozenset(rounds_ns)
    levels = {
        name: [float(np.median(one)) / frames[name] for one in rounds]
        for name, rounds in rounds_ns.items()
    }
    worst = {name: max(values) for name, values in levels.items()}
    leading = [worst[name] for name in able]
    if not leading:
        return frozenset(rounds_ns)
    highest = min(leading) * (1 + _MARGIN)
    near = frozenset(
        name
        for name, values in levels.items()
        if min(values) <= highest or (name in baselines and len(values) < _BASELINE_ROUNDS)
    )
    even = {
        name for name in near.intersection(able) if worst[name] <= min(levels[name]) * (1 + _MARGIN)
    }
    return near - {name for name, preferred in alternatives.items() if preferred in even}
