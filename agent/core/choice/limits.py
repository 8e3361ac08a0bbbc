"""The limits a candidate must keep: how each is read, how far it is missed, and how to say so.

Pure and numpy-free, because the daemon chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import Generic, TypeVar

from agent.core.records import AtRate, Candidate, Evaluation, Measurement, Power

_DIGITS = 4
_OF_POWER = ("power_w", "energy_j")
_ALIKE = 0.05  # two readings of one rail; their clocks and rates differ, its truth does not
_COVERED = 0.95  # of the windows; the last sample of all is up to a period before their end
_STARVED = 0.10  # of the time that its threads would have run
_DROPPED = 0.01  # a frame or two of a disturbed moment is no flag
ENOUGH_SAMPLES = 100
"""Of power, where it decides: a sensor's reading is of a millisecond, so that few of them alias
with the inferences (INA3221 data sheet SBOS576: 1.1 ms a conversion)."""


def power_counts(objective: str, limits: Mapping[str, float]) -> bool:
    """Return whether power or energy decides."""
    return objective in {"energy", "power"} or any(limits.get(key) for key in _OF_POWER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What is known of a candidate before it is measured: its fidelity and memory."""

    evaluation: Evaluation

    @property
    def sqnr_db(self) -> float:
        """Of the worst output; infinite where nothing differed."""
        value = self.evaluation.fidelity.sqnr_db
        return float("inf") if value is None else value

    @property
    def agreement(self) -> float | None:
        """The task's metric; outputs identical to the baseline's agree whatever the task."""
        return 1.0 if self.evaluation.identical else self.evaluation.fidelity.agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class Known(Judged):
    """A candidate that was measured and evaluated, so that it can be compared at all.

    Attributes:
        power_counts: Whether power or energy decides, so that a doubtful one is a flag.
    """

    candidate: Candidate
    measurement: Measurement
    power_counts: bool = False

    @property
    def id(self) -> str:
        """The candidate's id."""
        return self.candidate.id

    @property
    def power(self) -> Power | None:
        """At the application's frame rate, where that was asked, for so the device will run."""
        return (self.measurement.at_rate or self.measurement).power_w

    @property
    def power_w(self) -> float | None:
        """Mean of the power."""
        return self.power.mean if self.power else None

    @property
    def energy_j(self) -> float | None:
        """Per frame; at the application's frame rate, where that was asked."""
        return (self.measurement.at_rate or self.measurement).energy_j

    @property
    def energy_ci95_j(self) -> tuple[float, float] | None:
        """Of the energy."""
        return (self.measurement.at_rate or self.measurement).energy_j_ci95

    @property
    def flags(self) -> tuple[str, ...]:
        """What makes the numbers doubtful."""
        one = self.measurement
        late = _late(one.at_rate) if one.at_rate else ()
        doubtful = self._power_doubts() if self.power_counts else ()
        return (*disturbed(one), *late, *doubtful)

    def _power_doubts(self) -> tuple[str, ...]:
        power = self.power
        if power is None:
            return ()
        told = (
            (
                power.samples < ENOUGH_SAMPLES,
                f"its power is of {power.samples} samples only, {power.source} giving one every "
                f"{power.period_s:g} s",
            ),
            (_differ(power), f"{power.source} and {power.check_source} differ in {power.rail}"),
            (power.gaps > 0, f"the power sensor was silent {power.gaps} times"),
            (
                power.coverage < _COVERED and not power.gaps,
                f"the power sensor covers only {power.coverage:.0%} of the windows",
            ),
        )
        return tuple(words for holds, words in told if holds)


def disturbed(one: Measurement) -> tuple[str, ...]:
    """Return what makes a measurement doubtful whatever it is judged by, in words."""
    told = (
        (not one.steady, "its latency did not get steady"),
        (bool(one.throttled), "it throttled"),
        (not one.settled, "it was not warmed up"),
        (
            (one.starved or 0.0) > _STARVED,
            f"its threads waited for a CPU {one.starved or 0.0:.0%} of the time",
        ),
        (bool(one.mode_change), one.mode_change),
        (
            one.eliminated,
            f"it was measured for {one.rounds} rounds only, when it could no longer win",
        ),
    )
    return tuple(words for holds, words in told if holds)


def _late(rate: AtRate) -> tuple[str, ...]:
    if rate.dropped <= _DROPPED:
        return ()
    return (f"it drops {rate.dropped:.0%} of the frames at {rate.rate_fps:g} FPS",)


def _differ(power: Power) -> bool:
    if power.check_mean is None:
        return False
    return abs(power.mean - power.check_mean) > _ALIKE * max(power.mean, power.check_mean)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A limit that is not kept, or why that can't be said.

    Attributes:
        excess: Distance from the limit relative to it; infinite if it can't be told.
        key: The limit's name in the configuration; empty if no limit would help.
        loosened: What the limit would have to be; None if no limit would help.
    """

    reason: str
    excess: float = float("inf")
    key: str = ""
    bound: float = 0.0
    loosened: float | None = None


def power_reason(known: Known) -> str:
    """Return why power and energy are not known."""
    used = known.measurement.at_rate or known.measurement
    return used.power_reason or "power was not measured"


def _memory_reason(judged: Judged) -> str:
    return judged.evaluation.memory_reason or "it was not measured"


def _agreement_reason(judged: Judged) -> str:
    return judged.evaluation.fidelity.agreement_reason or "the task offers no agreement metric"


OneT_contra = TypeVar("OneT_contra", bound=Judged, contravariant=True)


@dataclass(frozen=True, slots=True)
class _Limit(Generic[OneT_contra]):
    key: str
    words: str
    unit: str
    value: Callable[[OneT_contra], float | None]
    missing: Callable[[OneT_contra], str]
    at_least: bool = False
    interval: Callable[[OneT_contra], tuple[float, float] | None] = lambda _: None


_FORESEEN: tuple[_Limit[Judged], ...] = (
    _Limit("memory_mb", "memory", " MB", lambda j: j.evaluation.memory_mb, _memory_reason),
    _Limit(
        "sqnr_db", "SQNR of the worst output", " dB", lambda j: j.sqnr_db, lambda _: "", True,
        interval=lambda j: j.evaluation.fidelity.sqnr_db_ci95,
    ),
    _Limit(
        "agreement", "agreement with FP32", "", lambda j: j.agreement, _agreement_reason, True,
        interval=lambda j: j.evaluation.fidelity.agreement_ci95,
    ),
)  # fmt: skip
_LIMITS: tuple[_Limit[Known], ...] = (
    _Limit(
        "latency_p99_ms", "p99", " ms", lambda k: k.measurement.latency_ms.p99, lambda _: "",
        interval=lambda k: k.measurement.latency_ms.ci95_p99,
    ),
    _Limit(
        "power_w", "power", " W", lambda k: k.power_w, power_reason,
        interval=lambda k: k.power.ci95 if k.power else None,
    ),
    _Limit(
        "energy_j", "energy per frame", " J", lambda k: k.energy_j, power_reason,
        interval=lambda k: k.energy_ci95_j,
    ),
    _Limit(
        "fps", "throughput", " FPS", lambda k: k.measurement.throughput_fps, lambda _: "", True
    ),
    *_FORESEEN,
)  # fmt: skip


def violations(known: Known, limits: Mapping[str, float]) -> tuple[Violation, ...]:
    """Return every limit that a candidate does not keep.

    Args:
        known: The candidate.
        limits: By the names of the configuration; 0 or absent is no limit.
    """
    return _missed(known, _LIMITS, limits)


def foreseen(judged: Judged, limits: Mapping[str, float]) -> tuple[Violation, ...]:
    """Return every limit that a candidate will not keep, whatever its measurement shows.

    Args:
        judged: The candidate, not measured yet.
        limits: By the names of the configuration; 0 or absent is no limit.
    """
    return _missed(judged, _FORESEEN, limits)


def _missed(
    one: OneT_contra, of: Sequence[_Limit[OneT_contra]], limits: Mapping[str, float]
) -> tuple[Violation, ...]:
    bounds = ((limit, limits.get(limit.key, 0.0)) for limit in of)
    return tuple(v for limit, bound in bounds if bound > 0.0 for v in _broken(one, limit, bound))


def doubts(known: Known, limits: Mapping[str, float]) -> tuple[str, ...]:
    """Return every limit that is kept, but that another measurement like this might miss.

    Args:
        known: The candidate.
        limits: By the names of the configuration; 0 or absent is no limit.
    """
    found = []
    for limit in _LIMITS:
        bound, value = limits.get(limit.key, 0.0), limit.value(known)
        span = limit.interval(known)
        if bound <= 0.0 or value is None or not span:
            continue
        if span[0] < bound <= value if limit.at_least else value <= bound < span[1]:
            found.append(
                f"{limit.words} {told(value, bound)}{limit.unit} keeps the limit of "
                f"{bound:g}{limit.unit} by less than its noise ({_told_span(span, limit)})"
            )
    return (*found, *_tail_doubts(known, limits.get("latency_p99_ms", 0.0)))


def _tail_doubts(known: Known, bound: float) -> tuple[str, ...]:
    """Say what p99 leaves open: of too few runs, or above its limit at the application's rate."""
    if bound <= 0.0:
        return ()
    latency, rate = known.measurement.latency_ms, known.measurement.at_rate
    told_here = []
    if latency.ci95_p99 is None:
        told_here.append(
            f"p99 {told(latency.p99, bound)} ms keeps the limit of {bound:g} ms, but has no "
            f"interval: {latency.ci95_reason}"
        )
    if rate and rate.latency_ms.p99 > bound:
        told_here.append(
            f"at {rate.rate_fps:g} FPS p99 is {told(rate.latency_ms.p99, bound)} ms, over the "
            f"limit of {bound:g} ms, which is judged flat out"
        )
    return tuple(told_here)


def _within(known: OneT_contra, limit: _Limit[OneT_contra], bound: float) -> str:
    """Say so if another measurement like this might keep a limit that is missed."""
    span = limit.interval(known)
    if span and (span[1] >= bound if limit.at_least else span[0] <= bound):
        return f" by less than its noise ({_told_span(span, limit)})"
    return ""


def _told_span(span: tuple[float, float], limit: _Limit[OneT_contra]) -> str:
    low, high = (f"{end:.{_DIGITS}g}" for end in span)
    return f"95 % interval {low} to {high}{limit.unit}"


def _broken(known: OneT_contra, limit: _Limit[OneT_contra], bound: float) -> list[Violation]:
    value = limit.value(known)
    if value is None:
        reason = f"{limit.words} has a limit of {bound:g}{limit.unit}: {limit.missing(known)}"
        return [Violation(reason=reason)]
    if value >= bound if limit.at_least else value <= bound:
        return []
    side = "under" if limit.at_least else "over"
    return [
        Violation(
            reason=f"{limit.words} {told(value, bound)}{limit.unit} is {side} "
            f"the limit of {bound:g}{limit.unit}{_within(known, limit, bound)}",
            excess=abs(value - bound) / bound,
            key=limit.key,
            bound=bound,
            loosened=_outward(value, limit.at_least),
        )
    ]


def told(value: float, other: float) -> str:
    """Return a value in as many digits as it takes to differ from another, four at least.

    Both told in these digits stand in their true order: 45.124 and 45.123, never 45.12 twice.
    """
    fewest = max(_DIGITS, *(len(f"{abs(number):.0f}") for number in (value, other)))
    for digits in range(fewest, 18):  # 17 tell any two doubles apart
        text = f"{value:.{digits}g}"
        if float(text) != float(f"{other:.{digits}g}"):
            return text
    return f"{value:.{fewest}g}"


def _outward(value: float, at_least: bool) -> float:
    """Return a limit of four digits that the value keeps; 0, no limit, below zero."""
    rounding = ROUND_FLOOR if at_least else ROUND_CEILING
    rounded = float(Context(prec=_DIGITS, rounding=rounding).create_decimal(repr(value)))
    return max(rounded, 0.0)
