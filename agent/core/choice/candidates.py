"""Candidates as they are compared: what was found about each, and what makes it doubtful.

Pure and numpy-free, because the daemon chooses.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.records import AtRate, Candidate, Evaluation, Measurement, Power

_ALIKE = 0.05  # two readings of one rail; their clocks and rates differ, its truth does not
_COVERED = 0.95  # of the windows; the last sample of all is up to a period before their end
_STARVED = 0.10  # of the time that its threads would have run
_DROPPED = 0.01  # a frame or two of a disturbed moment is no flag
ENOUGH_SAMPLES = 100
"""Of power, where it decides: a sensor's reading is of a millisecond, so that few of them alias
with the inferences (INA3221 data sheet SBOS576: 1.1 ms a conversion)."""
DECIDING_S = 30.0
"""Shortest measuring time of a candidate where power decides; a slow sensor takes longer."""

Span = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedCandidate:
    """A candidate with known fidelity and memory, measured or not."""

    candidate: Candidate
    evaluation: Evaluation

    @property
    def exact(self) -> bool:
        """Whether it is as faithful as the baseline: it is that, or its outputs are the same."""
        return self.evaluation.identical or self.candidate.recipe.is_baseline

    @property
    def sqnr_db(self) -> float:
        """SQNR of the worst group of channels; infinite where nothing differed."""
        value = self.evaluation.fidelity.sqnr_db
        return float("inf") if self.exact or value is None else value

    @property
    def agreement(self) -> float | None:
        """The task's metric; FP32 and what is identical to it agree whatever the task."""
        return 1.0 if self.exact else self.evaluation.fidelity.agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredCandidate(EvaluatedCandidate):
    """A candidate that was evaluated and measured, so that it can be compared with others.

    Attributes:
        power_decides: Whether the objective or a limit needs power; a doubtful power is then a
            flag.
    """

    measurement: Measurement
    power_decides: bool = False

    @property
    def id(self) -> str:
        """The candidate's id."""
        return self.candidate.id

    @property
    def under_load(self) -> AtRate | Measurement:
        """What power and energy are judged by: at the application's frame rate if set."""
        return self.measurement.at_rate or self.measurement

    @property
    def power_w(self) -> float | None:
        """Mean of the power."""
        power = self.under_load.power_w
        return power.mean if power else None

    @property
    def power_w_ci95(self) -> Span | None:
        """95 % interval of the mean power."""
        power = self.under_load.power_w
        return power.ci95 if power else None

    @property
    def power_reason(self) -> str:
        """Why power and energy are not known."""
        return self.under_load.power_reason or "power was not measured"

    @property
    def flags(self) -> tuple[str, ...]:
        """What makes the numbers doubtful."""
        found = list(disturbances(self.measurement))
        rate = self.measurement.at_rate
        if rate and rate.dropped > _DROPPED:
            found.append(f"it drops {rate.dropped:.0%} of the frames at {rate.rate_fps:g} FPS")
        if self.power_decides and self.under_load.power_w:
            found += _power_doubts(self.under_load.power_w)
        return tuple(found)


def disturbances(one: Measurement) -> tuple[str, ...]:
    """Return what makes a measurement doubtful whatever the objective, in words."""
    starved = one.starved or 0.0
    checks = (
        (not one.steady, "its latency did not get steady"),
        (bool(one.throttled), "it throttled"),
        (not one.settled, "it was not warmed up"),
        (starved > _STARVED, f"its threads waited for a CPU {starved:.0%} of the time"),
        (bool(one.mode_change), one.mode_change),
        (
            one.eliminated,
            f"it was measured for {one.rounds} rounds only, when it could no longer win",
        ),
    )
    return tuple(words for doubtful, words in checks if doubtful)


def _power_doubts(power: Power) -> tuple[str, ...]:
    check = power.mean if power.check_mean is None else power.check_mean
    checks = (
        (
            power.samples < ENOUGH_SAMPLES,
            f"its power is of {power.samples} samples only, {power.source} giving one every "
            f"{power.period_s:g} s",
        ),
        (
            abs(power.mean - check) > _ALIKE * max(power.mean, check),
            f"{power.source} and {power.check_source} differ in {power.rail}",
        ),
        (power.gaps > 0, f"the power sensor was silent {power.gaps} times"),
        (
            power.coverage < _COVERED and not power.gaps,
            f"the power sensor covers only {power.coverage:.0%} of the windows",
        ),
    )
    return tuple(words for doubtful, words in checks if doubtful)
