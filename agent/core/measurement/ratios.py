"""Ratios of candidates that were measured in turn, round by round. Pure.

A drift or a busy neighbour disturbs all candidates of a round alike, so it cancels in the ratio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agent.core.measurement.latency import interval

_LEAST_ROUNDS = 3


def p50_ratios_ci95(
    rounds_ns: Mapping[str, Sequence[NDArray[np.int64]]], p50s: Mapping[str, float], rounds: int
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the 95 % interval of each candidate's p50 over that of each other.

    Only of those that were measured in every round; of others, it is unknown which were shared.

    Args:
        rounds_ns: Wall time per inference of each round, ns, by candidate.
        p50s: Of all rounds together, any unit.
        rounds: How many there were.
    """
    levels = {
        name: np.array([max(float(np.median(one)), 1.0) for one in taken])
        for name, taken in rounds_ns.items()
        if len(taken) == rounds >= _LEAST_ROUNDS and p50s[name] > 0
    }
    return {
        name: {
            other: span
            for other, its in levels.items()
            if other != name and (span := interval(p50s[name] / p50s[other], list(mine / its)))
        }
        for name, mine in levels.items()
    }
