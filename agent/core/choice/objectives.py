"""What "best" means: one entry for each objective, and how candidates compare in it.

An entry of OBJECTIVES is all that an objective needs, beside its comment in configs/quantd.toml.
Pure and numpy-free, because the daemon chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.core.choice.candidates import MeasuredCandidate, Span

_ONE_ROUND = 0.05  # several rounds may differ by as much and count as steady
_POWER_NOISE = 0.01
"""Smallest difference between mean powers that counts, as a share: one step of the INA3221 (40 uV
over 5 mOhm at 5 V is 40 mW, its data sheet SBOS576) at the 4 W of a small board."""


def _p50_margins(one: MeasuredCandidate) -> Span:
    latency = one.measurement.latency_ms
    if not latency.ci95_p50:
        return _ONE_ROUND, _ONE_ROUND
    return _shares(latency.p50, latency.ci95_p50)


def _power_margins(value: float | None, span: Span | None) -> Span:
    below, above = _shares(value or 0.0, span) if span else (0.0, 0.0)
    return max(below, _POWER_NOISE), max(above, _POWER_NOISE)


def _shares(value: float, span: Span) -> Span:
    return ((value - span[0]) / value, (span[1] - value) / value) if value else (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One objective, and how two candidates compare in it.

    Attributes:
        key: Its name in the configuration.
        unit: As reasons give it.
        worse: Words for a candidate that costs more than another; so equal and better.
        value: What is compared; None where it was not measured.
        margins: How far the 95 % interval of the cost reaches below and above it, as shares of
            the value.
        maximize: Whether more is better.
        needs_power: Whether it needs a power sensor.
        frames: Frames of one inference that count, by its batch, where latency decides: then
            candidates are compared by the ratio of their p50 in the rounds they shared. None
            where latency does not decide.
    """

    key: str
    unit: str
    worse: str
    equal: str
    better: str
    value: Callable[[MeasuredCandidate], float | None]
    margins: Callable[[MeasuredCandidate], Span]
    maximize: bool = False
    needs_power: bool = False
    frames: Callable[[int], int] | None = None

    def cost(self, one: MeasuredCandidate) -> float:
        """Return the value with a sign that makes less better; infinite where not measured."""
        value = self.value(one)
        if value is None:
            return float("inf")
        return -value if self.maximize else value

    def interval(self, one: MeasuredCandidate) -> Span:
        """Return the 95 % interval of the cost."""
        cost = self.cost(one)
        below, above = self.margins(one)
        return cost - abs(cost) * below, cost + abs(cost) * above

    def costs_more(self, one: MeasuredCandidate, other: MeasuredCandidate) -> bool:
        """Return whether one candidate costs more than another beyond the noise.

        Where both were measured in every round, the ratio decides: what disturbed a round
        disturbed both.
        """
        ratio = one.measurement.p50_ratio_ci95.get(other.id)
        if ratio is None or self.frames is None:
            return self.interval(one)[0] > self.interval(other)[1]
        return ratio[0] > self.frames(one.candidate.batch) / self.frames(other.candidate.batch)


_ENTRIES = (
    Objective(
        key="latency",
        unit="ms",
        worse="slower than",
        equal="as fast as",
        better="faster than",
        value=lambda one: one.measurement.latency_ms.p50,
        margins=_p50_margins,
        frames=lambda _: 1,
    ),
    Objective(
        key="energy",
        unit="J",
        worse="needs more energy than",
        equal="needs the energy of",
        better="needs less energy than",
        value=lambda one: one.under_load.energy_j,
        margins=lambda one: _power_margins(one.under_load.energy_j, one.under_load.energy_j_ci95),
        needs_power=True,
    ),
    Objective(
        key="power",
        unit="W",
        worse="draws more power than",
        equal="draws the power of",
        better="draws less power than",
        value=lambda one: one.power_w,
        margins=lambda one: _power_margins(one.power_w, one.power_w_ci95),
        needs_power=True,
    ),
    Objective(
        key="throughput",
        unit="FPS",
        worse="less throughput than",
        equal="the throughput of",
        better="more throughput than",
        value=lambda one: one.measurement.throughput_fps,
        margins=_p50_margins,  # the cost is negative: a shorter time is a lower cost here too
        maximize=True,
        frames=lambda batch: batch,
    ),
)
OBJECTIVES: Mapping[str, Objective] = {objective.key: objective for objective in _ENTRIES}
"""The first of them decides where the configuration names none."""
