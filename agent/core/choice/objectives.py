"""What "best" means: the objectives, each with its cost, its 95 % interval and its words.

Pure and numpy-free, because the daemon chooses.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.choice.limits import Known

_ONE_ROUND = 0.05  # as far as several may drift apart and be called steady
_POWER_NOISE = 0.01
"""Share of a mean power that is not told apart from noise: one step of the INA3221 (40 uV over
5 mOhm at 5 V is 40 mW, its data sheet SBOS576) at the 4 W of a small board."""
NEEDS_POWER = {"energy", "power"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The unit of an objective, and how two candidates compare in it."""

    unit: str
    worse: str
    equal: str
    better: str


WORDS = {
    "latency": Words(unit="ms", worse="slower than", equal="as fast as", better="faster than"),
    "energy": Words(
        unit="J", worse="needs more energy than", equal="needs the energy of",
        better="needs less energy than",
    ),
    "power": Words(
        unit="W", worse="draws more power than", equal="draws the power of",
        better="draws less power than",
    ),
    "throughput": Words(
        unit="FPS", worse="less throughput than", equal="the throughput of",
        better="more throughput than",
    ),
}  # fmt: skip


def cost_of(known: Known, objective: str) -> float | None:
    """Return the objective as a number of which less is better; None where not measured."""
    if objective == "throughput":
        return -known.measurement.throughput_fps
    if objective == "energy":
        return known.energy_j
    if objective == "power":
        return known.power_w
    return known.measurement.latency_ms.p50


def known_cost(known: Known, objective: str) -> float:
    """Return the cost, infinite where it was not measured."""
    cost = cost_of(known, objective)
    return float("inf") if cost is None else cost


def cost_interval(known: Known, objective: str) -> tuple[float, float]:
    """Return between which costs a candidate may lie, from 95 % intervals.

    Throughput from p50's: its cost is negative, so a shorter time is a lower cost there as well.
    """
    cost = known_cost(known, objective)
    if objective == "power":
        below, above = _widths(known.power_w, known.power.ci95 if known.power else None)
    elif objective == "energy":
        below, above = _widths(known.energy_j, known.energy_ci95_j)
    else:
        latency = known.measurement.latency_ms
        span = latency.ci95_p50
        below, above = _shares(latency.p50, span) if span else (_ONE_ROUND, _ONE_ROUND)
    return cost - abs(cost) * below, cost + abs(cost) * above


def costs_more(one: Known, other: Known, objective: str) -> bool:
    """Return whether one costs more than another beyond the noise.

    Where both were measured in every round, their ratio tells: what moved a round moved both.
    """
    ratio = one.measurement.p50_ratio_ci95.get(other.id)
    if ratio is None or objective in NEEDS_POWER:
        return cost_interval(one, objective)[0] > cost_interval(other, objective)[1]
    frames = one.candidate.batch / other.candidate.batch if objective == "throughput" else 1.0
    return ratio[0] > frames


def _widths(value: float | None, span: tuple[float, float] | None) -> tuple[float, float]:
    """Return how far below and above a power may lie as shares of it, one step of a sensor at least."""
    below, above = _shares(value or 0.0, span) if span else (0.0, 0.0)
    return max(below, _POWER_NOISE), max(above, _POWER_NOISE)


def _shares(value: float, span: tuple[float, float]) -> tuple[float, float]:
    return ((value - span[0]) / value, (span[1] - value) / value) if value else (0.0, 0.0)
