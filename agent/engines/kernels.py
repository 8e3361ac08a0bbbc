"""Times of the kernels of an engine over some profiled inferences."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import TypeVar

_MOST_RUNS, _LEAST_RUNS = 40, 6
_SECONDS = 4.0
_MOST_TIMES = 40_000  # of kernels; ONNX Runtime's profile needs 1 KB for each
FeedT = TypeVar("FeedT")
NamedKernel = tuple[str, str]
"""The runtime's operator, and the name of the node."""


@dataclass(slots=True)
class RunTimes:
    """One inference.

    Attributes:
        inference_us: All of it.
        kernels_us: Its kernels, in order.
    """

    inference_us: float = 0.0
    kernels_us: Mapping[NamedKernel, float] = field(default_factory=dict)


def feeds(inputs: Sequence[FeedT], kernels: int) -> Iterator[FeedT]:
    """Yield the inputs in turn, for as many inferences as a profile may take.

    Args:
        inputs: At least one.
        kernels: About how many times each inference gives.
    """
    most = max(_LEAST_RUNS, min(_MOST_RUNS, _MOST_TIMES // max(kernels, 1)))
    deadline_s = time.monotonic() + _SECONDS
    for count, feed in enumerate(cycle(inputs)):
        if count == most or (count >= _LEAST_RUNS and time.monotonic() > deadline_s):
            return
        yield feed


def quartile_times(found: Iterable[RunTimes]) -> tuple[RunTimes, int]:
    """Return the lower quartile of each kernel over the inferences, and how many these are.

    What else runs on the machine can only add to a time, and one preemption is longer than most
    kernels. The whole is the sum of the quartiles, so that it is disturbed as little.
    """
    runs = [one for one in found if one.kernels_us]
    if not runs:
        return RunTimes(), 0
    names = dict.fromkeys(kernel for one in runs for kernel in one.kernels_us)
    kernels_us = {
        kernel: _lower_quartile(one.kernels_us.get(kernel, 0.0) for one in runs) for kernel in names
    }
    between_us = _lower_quartile(one.inference_us - sum(one.kernels_us.values()) for one in runs)
    return RunTimes(sum(kernels_us.values()) + between_us, kernels_us), len(runs)


def _lower_quartile(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 4]
