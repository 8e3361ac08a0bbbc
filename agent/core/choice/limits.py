"""The limits a candidate must keep: one entry for each, and what is derived from them.

An entry of LIMITS is all that a limit needs, beside its comment in configs/quantd.toml: the table
[limits] of the configuration, the arguments of a command, their ranges and schemas, the verdicts
and their reasons come from here. Pure and numpy-free, because the daemon chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import Generic, TypeVar

from agent.core.choice.candidates import EvaluatedCandidate, MeasuredCandidate, Span
from agent.core.records import Floor, Timing

_DIGITS = 4

CandidateT_contra = TypeVar("CandidateT_contra", bound=EvaluatedCandidate, contravariant=True)
Bounds = Mapping[str, float]
"""By the keys of LIMITS; 0 or absent is no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit(Generic[CandidateT_contra]):
    """One limit, and how it is read from a candidate.

    Attributes:
        key: Its name in the configuration; ends in its unit.
        words: Its name in reasons.
        unit: As reasons give it; "" for a share.
        highest: Of its range, which begins at 0 (no limit).
        value: What is compared with the bound; None where it is not known.
        missing: Why it is not known.
        interval: 95 % interval of the value; None where there is none.
        detail: What else a reason gives of a value that breaks a bound, in words; or "".
        minimum: True if the value must be at least the bound, False if at most.
        needs_power: Whether it needs a power sensor.
        timing: How it is read from the rounds measured so far; None where they don't show it.
        doubts: What else is doubtful about a value that keeps a bound.
        floor: Its bound where it is not set and is the floor of the task; None if it never is.
    """

    key: str
    words: str
    unit: str
    highest: float
    value: Callable[[CandidateT_contra], float | None]
    missing: Callable[[CandidateT_contra], str] = lambda _: "it was not measured"
    interval: Callable[[CandidateT_contra], Span | None] = lambda _: None
    detail: Callable[[CandidateT_contra], str] = lambda _: ""
    minimum: bool = False
    needs_power: bool = False
    timing: Callable[[Timing], float] | None = None
    doubts: Callable[[CandidateT_contra, float], Iterable[str]] = lambda *_: ()
    floor: float | None = None

    def keeps(self, value: float, bound: float) -> bool:
        """Return whether a value keeps a bound."""
        return value >= bound if self.minimum else value <= bound

    def amount(self, value: float, other: float | None = None) -> str:
        """Return a value with its unit, in the digits that set it apart from another."""
        text = f"{value:g}" if other is None else format_distinct(value, other)
        return f"{text} {self.unit}".rstrip()


class ForeseeableLimit(Limit[EvaluatedCandidate]):
    """A limit on what is known before a candidate is measured."""

    __slots__ = ()


def _p99_doubts(one: MeasuredCandidate, bound: float) -> Iterable[str]:
    latency, rate = one.measurement.latency_ms, one.measurement.at_rate
    if latency.ci95_p99 is None:
        yield (
            f"p99 {format_distinct(latency.p99, bound)} ms keeps the limit of {bound:g} ms, but "
            f"has no interval: {latency.ci95_reason}"
        )
    if rate and rate.latency_ms.p99 > bound:
        yield (
            f"at {rate.rate_fps:g} FPS p99 is {format_distinct(rate.latency_ms.p99, bound)} ms, "
            f"over the limit of {bound:g} ms, which is judged flat out"
        )


def _worst_group(one: EvaluatedCandidate) -> str:
    groups = one.evaluation.fidelity.sqnr_groups
    if len(groups) < 2:
        return ""
    worst = groups[0]
    return f"{worst.output}, channels {worst.channels}, magnitude {worst.magnitude:.2g}"


P99: Limit[MeasuredCandidate] = Limit(
    key="latency_p99_ms",
    words="p99",
    unit="ms",
    highest=1e6,
    value=lambda one: one.measurement.latency_ms.p99,
    interval=lambda one: one.measurement.latency_ms.ci95_p99,
    timing=lambda timing: timing.p99_ms,
    doubts=_p99_doubts,
)
SQNR = ForeseeableLimit(
    key="sqnr_db",
    words="SQNR of the worst group of channels",
    unit="dB",
    highest=200,
    value=lambda one: one.sqnr_db,
    interval=lambda one: None if one.exact else one.evaluation.fidelity.sqnr_db_ci95,
    detail=_worst_group,
    minimum=True,
    floor=20.0,
)
AGREEMENT = ForeseeableLimit(
    key="agreement",
    words="agreement with FP32",
    unit="",
    highest=1,
    value=lambda one: one.agreement,
    missing=lambda one: (
        one.evaluation.fidelity.agreement_reason or "the task offers no agreement metric"
    ),
    interval=lambda one: None if one.exact else one.evaluation.fidelity.agreement_ci95,
    detail=lambda one: one.evaluation.fidelity.summary,
    minimum=True,
    floor=0.95,
)
_ENTRIES: tuple[Limit[MeasuredCandidate], ...] = (
    P99,
    Limit(
        key="power_w",
        words="power",
        unit="W",
        highest=1e4,
        value=lambda one: one.power_w,
        missing=lambda one: one.power_reason,
        interval=lambda one: one.power_w_ci95,
        needs_power=True,
    ),
    Limit(
        key="energy_j",
        words="energy per frame",
        unit="J",
        highest=1e6,
        value=lambda one: one.under_load.energy_j,
        missing=lambda one: one.power_reason,
        interval=lambda one: one.under_load.energy_j_ci95,
        needs_power=True,
    ),
    ForeseeableLimit(
        key="memory_mb",
        words="memory",
        unit="MB",
        highest=1e7,
        value=lambda one: one.evaluation.memory_mb,
        missing=lambda one: one.evaluation.memory_reason or "it was not measured",
    ),
    Limit(
        key="fps",
        words="throughput",
        unit="FPS",
        highest=1e6,
        value=lambda one: one.measurement.throughput_fps,
        minimum=True,
        timing=lambda timing: timing.throughput_fps,
    ),
    SQNR,
    AGREEMENT,
)
LIMITS: Mapping[str, Limit[MeasuredCandidate]] = {limit.key: limit for limit in _ENTRIES}


def with_floor(configured: Mapping[str, float | None], has_metric: bool) -> tuple[Bounds, Floor]:
    """Return the limits in effect, and which of them is the fidelity floor.

    Args:
        configured: By the keys of LIMITS; None is the default.
        has_metric: Whether the task has a metric of agreement.
    """
    limit = AGREEMENT if has_metric else SQNR
    bounds = {key: bound or 0.0 for key, bound in configured.items()}
    is_default = configured.get(limit.key) is None
    if is_default:
        bounds[limit.key] = limit.floor or 0.0
    return bounds, Floor(limit=limit.key, bound=bounds[limit.key], default=is_default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A limit that is not kept, or why it can't be judged.

    Attributes:
        excess: Distance from the limit relative to it; infinite where it is not known.
        key: The limit's name in the configuration; empty if no limit would help.
        loosened: What the limit would have to be; None if no limit would help.
    """

    reason: str
    excess: float = float("inf")
    key: str = ""
    bound: float = 0.0
    loosened: float | None = None


def violations(one: MeasuredCandidate, bounds: Bounds) -> tuple[Violation, ...]:
    """Return every limit that a candidate does not keep."""
    return _violations(one, LIMITS.values(), bounds)


def foreseeable_violations(one: EvaluatedCandidate, bounds: Bounds) -> tuple[Violation, ...]:
    """Return every limit that a candidate will not keep, whatever its measurement shows."""
    known = (limit for limit in LIMITS.values() if isinstance(limit, ForeseeableLimit))
    return _violations(one, known, bounds)


def loosened(bounds: Bounds, asked: Bounds) -> tuple[str, ...]:
    """Return the keys of the limits that others would lift or replace by weaker ones."""
    return tuple(
        key
        for key, value in asked.items()
        if (bound := bounds.get(key, 0.0)) > 0.0
        and (value <= 0.0 or not LIMITS[key].keeps(value, bound))
    )


def keeps_so_far(timing: Timing, bounds: Bounds) -> bool:
    """Return whether the rounds measured so far keep every limit that they show."""
    return all(
        limit.keeps(limit.timing(timing), bound)
        for key, limit in LIMITS.items()
        if limit.timing and (bound := bounds.get(key, 0.0)) > 0.0
    )


def doubts(one: MeasuredCandidate, bounds: Bounds) -> tuple[str, ...]:
    """Return every limit that is kept, but that another measurement like this might miss.

    Args:
        one: A candidate that keeps all limits.
        bounds: The limits.
    """
    found: list[str] = []
    further: list[str] = []
    for key, limit in LIMITS.items():
        bound, value = bounds.get(key, 0.0), limit.value(one)
        if bound <= 0.0 or value is None:
            continue
        span = limit.interval(one)
        if span and limit.keeps(value, bound) and not limit.keeps(span[not limit.minimum], bound):
            found.append(
                f"{limit.words} {limit.amount(value, bound)} keeps the limit of "
                f"{limit.amount(bound)} by less than its noise ({_interval(span, limit.unit)})"
            )
        further += limit.doubts(one, bound)
    return (*found, *further)


def _violations(
    one: CandidateT_contra, limits: Iterable[Limit[CandidateT_contra]], bounds: Bounds
) -> tuple[Violation, ...]:
    found = []
    for limit in limits:
        bound, value = bounds.get(limit.key, 0.0), limit.value(one)
        if bound <= 0.0 or (value is not None and limit.keeps(value, bound)):
            continue
        if value is None:
            reason = f"{limit.words} has a limit of {limit.amount(bound)}: {limit.missing(one)}"
            found.append(Violation(reason=reason))
            continue
        side = "under" if limit.minimum else "over"
        reason = (
            f"{limit.words} {limit.amount(value, bound)} is {side} the limit of "
            f"{limit.amount(bound)}"
        )
        if detail := limit.detail(one):
            reason += f" ({detail})"
        span = limit.interval(one)
        if span and limit.keeps(span[limit.minimum], bound):
            reason += f" by less than its noise ({_interval(span, limit.unit)})"
        found.append(
            Violation(
                reason=reason,
                excess=abs(value - bound) / bound,
                key=limit.key,
                bound=bound,
                loosened=_loosened(value, limit.minimum),
            )
        )
    return tuple(found)


def _interval(span: Span, unit: str) -> str:
    low, high = (f"{end:.{_DIGITS}g}" for end in span)
    return f"95 % interval {low} to {high} {unit}".rstrip()


def _loosened(value: float, minimum: bool) -> float:
    """Return a limit of four digits that the value keeps; 0, no limit, below zero."""
    rounding = ROUND_FLOOR if minimum else ROUND_CEILING
    rounded = float(Context(prec=_DIGITS, rounding=rounding).create_decimal(repr(value)))
    return max(rounded, 0.0)


def format_distinct(value: float, other: float) -> str:
    """Return a value in as many digits as it takes to differ from another, at least four.

    Both formatted this way keep their order: 45.124 and 45.123, never 45.12 twice.
    """
    fewest = max(_DIGITS, *(len(f"{abs(number):.0f}") for number in (value, other)))
    for digits in range(fewest, 18):  # 17 digits set any two doubles apart
        text = f"{value:.{digits}g}"
        if float(text) != float(f"{other:.{digits}g}"):
            return text
    return f"{value:.{fewest}g}"
