"""The measurement history that predictions are made from. Pure and numpy-free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import log

from agent.core.choice.candidates import disturbances
from agent.core.records import UNPREDICTED, Candidate, CleanModel, Measurement

LATENCY, POWER, ENERGY = "latency", "power", "energy"
MIXED = "int8-mixed"
_SAY_A_SPAN = ("trial", "roofline")  # of int8-mixed, as `core.prediction` names them
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Check:
    """A figure that was predicted and then measured, both in its unit and positive.

    Attributes:
        nearest: Of what was predicted, what the measurement came nearest to.
        inside: Whether the predicted interval held the measurement; None if there was none.
    """

    measured: float
    nearest: float
    inside: bool | None

    @property
    def off(self) -> float:
        """How far the measurement was off, as a share of the prediction."""
        return self.measured / self.nearest - 1

    @property
    def log_off(self) -> float:
        """The same as a logarithm, in either direction."""
        return abs(log(self.measured / self.nearest))


@dataclass(frozen=True, slots=True, kw_only=True)
class PastMeasurement:
    """One measured candidate, kept to predict the next ones.

    Attributes:
        model: sha256 of the model file.
        macs: Multiply-accumulates per inference.
        energy_j: None where power could not be measured.
        power_mode: The mode it was measured in, "" where the machine has none.
        predicted_ms: The latency predicted before it was built; None if none was.
        low_ms: Where the prediction's 90 % interval began; None if there was none.
        high_ms: Where it ended.
        source: What the prediction stood on, as `core.prediction` names it.
        dla_core: The accelerator that it ran on; -1 for none.
        span_low_ms: Where a prediction that was no point but a span began; None for a point.
        span_high_ms: Where it ended.
        predicted_w: As predicted_ms, of the power; low_w and high_w likewise, and so for energy.
    """

    model: str
    precision: str
    runtime: str
    batch: int
    power_mode: str
    macs: int
    latency_p50_ms: float
    energy_j: float | None
    predicted_ms: float | None
    utc: str
    power_w: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    source: str = ""
    dla_core: int = -1
    span_low_ms: float | None = None
    span_high_ms: float | None = None
    predicted_w: float | None = None
    low_w: float | None = None
    high_w: float | None = None
    predicted_j: float | None = None
    low_j: float | None = None
    high_j: float | None = None

    def check(self, figure: str = LATENCY) -> Check | None:
        """Return how a prediction of latency (ms), power (W) or energy (J) fared, if it was made.

        One of a span whose ends were not kept, as an earlier version did, can't be judged: by its
        middle it was off by up to a factor of two.
        """
        measured, predicted, low, high = {
            LATENCY: (self.latency_p50_ms, self.predicted_ms, self.low_ms, self.high_ms),
            POWER: (self.power_w, self.predicted_w, self.low_w, self.high_w),
            ENERGY: (self.energy_j, self.predicted_j, self.low_j, self.high_j),
        }[figure]
        if not measured or not predicted or min(measured, predicted) <= 0:
            return None
        span = self._span(figure)
        spanned = self.precision == MIXED and self.source in _SAY_A_SPAN
        if spanned and span is None and figure != POWER:
            return None
        if span:
            predicted = min(max(measured, span[0]), span[1])
        if low is None or high is None:
            return Check(measured, predicted, None)
        return Check(measured, predicted, low <= measured <= high)

    def _span(self, figure: str) -> Span | None:
        if figure == POWER or self.span_low_ms is None or self.span_high_ms is None:
            return None
        if figure == LATENCY:
            return self.span_low_ms, self.span_high_ms
        share = (self.predicted_j or 0.0) / (self.predicted_ms or 1.0)
        return share * self.span_low_ms, share * self.span_high_ms


def remembered(
    candidates: Iterable[Candidate], model: CleanModel, present: str, utc: str
) -> tuple[PastMeasurement, ...]:
    """Return the measurements worth remembering: those that nothing disturbed.

    One that throttled, drifted or was left out of the last rounds says little of the next time,
    and would make a candidate look slower than it is: it might never be tried again. That the
    machine still got warmer does not count: a heat sink takes minutes, all candidates had the
    same, and a board that is never remembered would never predict.

    Args:
        candidates: Of one run.
        model: That they are made from.
        present: The power mode that candidates without one of their own were measured in.
        utc: When the run began; it names the run.
    """
    return tuple(
        _remembered(one, one.measurement, model, one.power_mode or present, utc)
        for one in candidates
        if one.measurement and not disturbances(replace(one.measurement, settled=True))
    )


def _remembered(
    one: Candidate, measured: Measurement, model: CleanModel, mode: str, utc: str
) -> PastMeasurement:
    predicted = one.predicted or UNPREDICTED
    low_ms, high_ms = predicted.latency_p50_ms_ci90 or (None, None)
    span_low_ms, span_high_ms = predicted.latency_p50_ms_span or (None, None)
    low_w, high_w = predicted.power_w_ci90 or (None, None)
    low_j, high_j = predicted.energy_j_ci90 or (None, None)
    return PastMeasurement(
        model=model.sha256,
        precision=one.recipe.precision,
        runtime=one.runtime,
        batch=one.batch,
        power_mode=mode,
        macs=model.macs,
        latency_p50_ms=measured.latency_ms.p50,
        energy_j=measured.energy_j,
        power_w=measured.power_w.mean if measured.power_w else None,
        predicted_ms=predicted.latency_p50_ms,
        low_ms=low_ms,
        high_ms=high_ms,
        span_low_ms=span_low_ms,
        span_high_ms=span_high_ms,
        predicted_w=predicted.power_w,
        low_w=low_w,
        high_w=high_w,
        predicted_j=predicted.energy_j,
        low_j=low_j,
        high_j=high_j,
        source=predicted.source,
        dla_core=one.dla_core,
        utc=utc,
    )
