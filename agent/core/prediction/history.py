"""The measurement history that predictions are made from. Pure and numpy-free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import log

from agent.core.choice.candidates import disturbances
from agent.core.records import MIXED, UNPREDICTED, Candidate, CleanModel, Measurement

LATENCY, POWER, ENERGY = "latency", "power", "energy"
_PREDICT_A_SPAN = ("trial", "roofline")  # of int8-mixed, as `core.prediction` names them
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Check:
    """A figure that was predicted and then measured, both in its unit and positive.

    Attributes:
        nearest: The predicted value; of a predicted span, the value nearest to the measurement.
        inside: Whether the measurement is inside the predicted interval; None without one.
    """

    measured: float
    nearest: float
    inside: bool | None

    @property
    def off(self) -> float:
        """The error of the prediction, as a share of it."""
        return self.measured / self.nearest - 1

    @property
    def log_off(self) -> float:
        """The absolute error as a logarithm."""
        return abs(log(self.measured / self.nearest))


@dataclass(frozen=True, slots=True, kw_only=True)
class PastMeasurement:
    """One measured candidate, kept to predict the next ones.

    Attributes:
        model: sha256 of the model file.
        macs: Multiply-accumulates per inference.
        energy_j: Per frame; None where power could not be measured.
        power_mode: The mode it was measured in, "" where the machine has none.
        predicted_ms: The latency predicted before it was built; None if none was.
        low_ms: Lower end of the prediction's 90 % interval; None if there was none.
        high_ms: Its upper end.
        source: Source of the prediction, as `core.prediction` names it.
        dla_core: The accelerator that it ran on; -1 for none.
        span_low_ms: Lower end of a predicted span; None where a single value was predicted.
        span_high_ms: Its upper end.
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
        """Compare the prediction of latency (ms), power (W) or energy (J), if any, with the result.

        A predicted span whose ends were not stored (by an earlier version) can't be compared: its
        middle may be off by a factor of two.
        """
        measured, predicted, low, high = {
            LATENCY: (self.latency_p50_ms, self.predicted_ms, self.low_ms, self.high_ms),
            POWER: (self.power_w, self.predicted_w, self.low_w, self.high_w),
            ENERGY: (self.energy_j, self.predicted_j, self.low_j, self.high_j),
        }[figure]
        if not measured or not predicted or min(measured, predicted) <= 0:
            return None
        span = self._span(figure)
        spanned = self.precision == MIXED and self.source in _PREDICT_A_SPAN
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
    """Return the measurements to store for predictions: the undisturbed ones.

    One that throttled, drifted or was left out of the last rounds would make a candidate look
    slower than it is, and it might never be tried again. A machine that still got warmer does not
    count as disturbed: heat sinks take minutes, all candidates had the same, and such a board
    would never have a history.

    Args:
        candidates: Of one run.
        model: The model they are made from.
        present: Power mode of the candidates that have none of their own.
        utc: Start of the run; it identifies the run.
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
