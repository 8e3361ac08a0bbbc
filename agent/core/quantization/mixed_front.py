"""A few graphs between the fastest one in INT8 and the one that meets the limits on fidelity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from agent.core.quantization.mixed_search import NoiseModel, Plan
from agent.core.quantization.time_model import TimeModel

_LEAST_STEP, _LEAST_STEP_DB = 0.02, 1.0
"""Between two members: of the time of all layers in float, and of the noise."""
_NOISE_FLOOR = 1e-4
"""Of the allowed one: what is better by 40 dB is no better."""


def members(
    model: NoiseModel, times: TimeModel, plan: Plan, first: frozenset[str], most: int
) -> tuple[frozenset[str], ...]:
    """Return sets of float layers from the fastest to the plan's, each slower one more faithful.

    Between the two ends lie the knees: of the sets on the way that the search took, those that are
    farthest from the straight line of time and noise in dB between their neighbours.

    Args:
        model: Noise of each layer.
        times: Time of each layer.
        plan: The set that meets the limit.
        first: Layers that stay in float for their speed.
        most: Members, at least 2.
    """
    path = [frozenset(plan.order[:k]) for k in range(len(first), len(plan.order))]
    points = {
        kept: (times.time(kept), _decibels(model.excess(kept))) for kept in (*path, plan.kept)
    }
    least_time = _LEAST_STEP * times.all_float
    front = list(dict.fromkeys((first, plan.kept)))
    while len(front) < most:
        open_ = [one for one in path if _is_between(points, one, front, least_time)]
        best = max(open_, key=lambda one: _bend(points, one, front), default=None)
        if best is None or _bend(points, best, front) <= 0:
            break
        front = sorted([*front, best], key=lambda one: points[one])
    return tuple(
        one
        for at, one in enumerate(front)
        if one == plan.kept or all(points[one][0] < points[later][0] for later in front[at + 1 :])
    )


_Points = Mapping[frozenset[str], tuple[float, float]]
"""Time and noise, dB above the allowed one, of a set."""


def _is_between(
    points: _Points, one: frozenset[str], front: Sequence[frozenset[str]], least_time: float
) -> bool:
    """Return whether a set differs from all members, and is no slower than the last one."""
    time, noise_db = points[one]
    apart = all(abs(time - points[other][0]) >= least_time for other in front)
    less_noise = all(abs(noise_db - points[other][1]) >= _LEAST_STEP_DB for other in front)
    return apart and less_noise and points[front[0]][0] < time < points[front[-1]][0]


def _bend(points: _Points, one: frozenset[str], front: Sequence[frozenset[str]]) -> float:
    """Return how far below the line between its neighbours the noise of a set lies, 0..1.

    Both axes are relative to the whole front.
    """
    (x0, y0), (x1, y1) = points[front[0]], points[front[-1]]
    wide, high = x1 - x0 or 1.0, y0 - y1 or 1.0
    time, noise_db = points[one]
    before = max(points[other] for other in front if points[other][0] <= time)
    after = min(points[other] for other in front if points[other][0] > time)
    share = (time - before[0]) / (after[0] - before[0] or 1.0)
    expected = before[1] + share * (after[1] - before[1])
    return (expected - noise_db) / high * min((after[0] - before[0]) / wide, 1.0)


def _decibels(ratio: float) -> float:
    return 10 * math.log10(max(ratio, _NOISE_FLOOR))
