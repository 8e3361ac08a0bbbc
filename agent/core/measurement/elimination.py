"""Which candidates go into the next round of measuring: those that can still win.

Who was left out comes back when the leader is disturbed later, or misses a limit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agent.core.measurement.latency import percentile

_LEAST_ROUNDS = 2
_BASELINE_ROUNDS = 3  # so that what INT8 gains is told with an interval that means something
_MARGIN = 0.05  # a drift that hits candidates unlike is no reason to drop one

RoundsNs = Mapping[str, Sequence[NDArray[np.int64]]]


def keeping(
    rounds_ns: RoundsNs, batches: Mapping[str, int], latency_p99_ms: float, fps: float
) -> frozenset[str]:
    """Return who keeps the limits on latency and throughput so far.

    Args:
        rounds_ns: Wall time per inference of each round so far, by candidate.
        batches: Frames per inference, by candidate.
        latency_p99_ms: 0 for no limit.
        fps: 0 for no limit.
    """
    kept = set()
    for name, rounds in rounds_ns.items():
        ordered = np.sort(np.concatenate(list(rounds))) if rounds else np.zeros(0, np.int64)
        if not ordered.size:
            continue
        in_time = not latency_p99_ms or percentile(ordered, 99) <= latency_p99_ms * 1e6
        if in_time and batches[name] >= fps * float(ordered.mean()) / 1e9:
            kept.add(name)
    return frozenset(kept)


def survivors(
    rounds_ns: RoundsNs,
    frames: Mapping[str, int],
    baselines: Collection[str],
    spares: Mapping[str, str],
    keeping: Collection[str],
) -> frozenset[str]:
    """Return who is measured on: all whose best round comes near the leader's worst.

    Only one that keeps the limits can lead: while none does, all go on. A spare goes once the
    one that it stands by for has shown even rounds.

    Args:
        rounds_ns: Wall time per inference of each round so far, by candidate.
        frames: Frames per inference that count, by candidate: the batch if throughput is wanted,
            1 for latency.
        baselines: Who stays for three rounds whatever happens.
        spares: Who is the same graph as another that is preferred to it, and that other.
        keeping: Who keeps the limits so far.

    Source: Jamieson and Talwalkar, "Non-stochastic Best Arm Identification" (AISTATS 2016) for
        dropping between rounds; here by how far rounds reach and not by half, since a tie must
        be settled by fidelity and not by chance.
    """
    if min((len(rounds) for rounds in rounds_ns.values()), default=0) < _LEAST_ROUNDS:
        return frozenset(rounds_ns)
    levels = {
        name: [float(np.median(one)) / frames[name] for one in rounds]
        for name, rounds in rounds_ns.items()
    }
    worst = {name: max(values) for name, values in levels.items()}
    leading = [worst[name] for name in keeping]
    if not leading:
        return frozenset(rounds_ns)
    reach = min(leading) * (1 + _MARGIN)
    near = frozenset(
        name
        for name, values in levels.items()
        if min(values) <= reach or (name in baselines and len(values) < _BASELINE_ROUNDS)
    )
    even = {
        name
        for name in near.intersection(keeping)
        if worst[name] <= min(levels[name]) * (1 + _MARGIN)
    }
    return near - {spare for spare, other in spares.items() if other in even}
