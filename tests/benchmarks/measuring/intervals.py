"""Whether the 95 % intervals of p50 and p99 cover the truth as often as they claim.

Latencies of processes whose percentiles are known: noise alone, two modes, a heavy tail, rounds
with a level of their own, autocorrelation, drift and bursts of slow runs. The truth is that of
the process, as rounds without end would show it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from agent.core.measurement.latency import percentile, summarize
from tests.benchmarks.rows import Row

_RUNS = 200
SHAPES = ((5, 100), (5, 600), (10, 200))  # rounds and inferences in each
FEW = ((2, 100), (3, 40), (5, 5), (5, 60))  # of slow engines, or short measurements
_TRUTH_RUNS = 400_000
_GOAL = (0.92, 0.98)

Noise = NDArray[np.float64]
Round = Callable[[np.random.Generator, int, float], Noise]
"""One round in ms: (chance, inferences, share of all rounds that have passed)."""


def _calm(rng: np.random.Generator, runs: int, _done: float) -> Noise:
    return 10 * rng.lognormal(0, 0.05, runs)


def _two_modes(rng: np.random.Generator, runs: int, _done: float) -> Noise:
    return np.where(rng.random(runs) < 0.8, 10.0, 13.0) * rng.lognormal(0, 0.03, runs)


def _heavy_tail(rng: np.random.Generator, runs: int, _done: float) -> Noise:
    return 10 * (1 + 0.02 * rng.standard_normal(runs) ** 2 + 0.05 * rng.pareto(2.5, runs))


def _levels(rng: np.random.Generator, runs: int, _done: float) -> Noise:
    return 10 * rng.lognormal(0, 0.02) * rng.lognormal(0, 0.03, runs)


def _neighbours(rng: np.random.Generator, runs: int, _done: float) -> Noise:
    shocks, value = rng.standard_normal(runs), np.empty(runs)
    value[0] = shocks[0]
    for index in range(1, runs):
        value[index] = 0.9 * value[index - 1] + sqrt(1 - 0.81) * shocks[index]
    return 10 * rng.lognormal(0, 0.02) * np.exp(0.04 * value)


def _drift(rng: np.random.Generator, runs: int, done: float) -> Noise:
    return 10 * (1 + 0.04 * done) * rng.lognormal(0, 0.03, runs)


def _bursts(rng: np.random.Generator, runs: int, done: float) -> Noise:
    values = _levels(rng, runs, done)
    length = max(1, runs // 50)
    begin = rng.integers(0, runs - length + 1)
    values[begin : begin + length] *= 1.5
    return values


PROCESSES: dict[str, Round] = {
    "noise alone": _calm,
    "two modes": _two_modes,
    "a heavy tail": _heavy_tail,
    "rounds at levels of their own": _levels,
    "neighbours alike": _neighbours,
    "drift": _drift,
    "bursts": _bursts,
}


def rows() -> list[Row]:
    """Return the coverage of both intervals over all processes, and of each."""
    found = {name: coverage(process, _RUNS) for name, process in PROCESSES.items()}
    few = {name: coverage(process, _RUNS, FEW) for name, process in PROCESSES.items()}
    return [
        _row("p50", SHAPES, {name: one.p50 for name, one in found.items()}),
        _row("p99", SHAPES, {name: one.p99 for name, one in found.items()}),
        _row("p50 of few runs", FEW, {name: one.p50 for name, one in few.items()}),
        _withheld(few),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How often intervals of p50 and p99 held the truth where one was told, and how often."""

    p50: float | None
    p99: float | None
    p50_told: float
    p99_told: float


def coverage(process: Round, runs: int, shapes: Sequence[tuple[int, int]] = SHAPES) -> Coverage:
    """Return how often the intervals of p50 and p99 held the truth, over all shapes."""
    held, told = np.zeros(2), np.zeros(2)
    for rounds, inferences in shapes:
        truth = _truth(process, rounds, inferences)
        rng = np.random.default_rng(1)
        for _ in range(runs):
            latency = summarize(_taken(process, rng, rounds, inferences))
            for index, span in enumerate((latency.ci95_p50, latency.ci95_p99)):
                if span is not None:
                    told[index] += 1
                    held[index] += span[0] <= truth[index] <= span[1]
    shares = [float(h / t) if t else None for h, t in zip(held, told, strict=True)]
    asked = runs * len(shapes)
    return Coverage(
        p50=shares[0],
        p99=shares[1],
        p50_told=float(told[0] / asked),
        p99_told=float(told[1] / asked),
    )


def _taken(
    process: Round, rng: np.random.Generator, rounds: int, inferences: int
) -> list[NDArray[np.int64]]:
    return [
        (1e6 * process(rng, inferences, number / rounds)).astype(np.int64)
        for number in range(rounds)
    ]


def _truth(process: Round, rounds: int, inferences: int) -> tuple[float, float]:
    rng = np.random.default_rng(999)
    times = max(20, _TRUTH_RUNS // (rounds * inferences))
    everything: Sequence[NDArray[np.int64]] = [
        one for _ in range(times) for one in _taken(process, rng, rounds, inferences)
    ]
    ordered = np.sort(np.concatenate(everything))
    return percentile(ordered, 50) / 1e6, percentile(ordered, 99) / 1e6


def _row(what: str, shapes: Sequence[tuple[int, int]], each: dict[str, float | None]) -> Row:
    known = {process: round(share, 3) for process, share in each.items() if share is not None}
    mean = float(np.mean(list(known.values())))
    least, most = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    low, high = _GOAL
    outside = [process for process, share in known.items() if not low <= share <= high]
    return Row(
        what=f"95 % interval of {what}, {_RUNS * len(shapes)} simulated runs of each of "
        f"{len(known)} processes",
        goal="covers 92 to 98 %",
        found=f"{mean:.1%}; by process {known[least]:.1%} ({least}) to {known[most]:.1%} ({most})",
        met=low <= mean <= high,
        detail={"mean": mean, "processes": known, "shapes": shapes, "outside": outside},
    )


def _withheld(few: dict[str, Coverage]) -> Row:
    told = max(one.p99_told for one in few.values())
    return Row(
        what="95 % interval of p99 of fewer than 368 runs",
        goal="is not told",
        found=f"told in {told:.0%}",
        met=told == 0.0,
        detail={"told": {name: one.p99_told for name, one in few.items()}, "shapes": FEW},
    )
