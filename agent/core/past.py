"""What of a run is remembered, to predict the next ones by. Pure and numpy-free."""

from __future__ import annotations

from collections.abc import Iterable

from agent.core.journal import PastMeasurement
from agent.core.lineage import Candidate, CleanModel, Measurement, Prediction

_UNPREDICTED = Prediction(latency_p50_ms=None, energy_j=None, basis="")


def remembered(
    candidates: Iterable[Candidate], model: CleanModel, present: str, utc: str
) -> tuple[PastMeasurement, ...]:
    """Return the measurements worth remembering: those that nothing disturbed.

    One that throttled, drifted or was left out of the last rounds says little of the next time,
    and would make a candidate look slower than it is: it might never be tried again.

    Args:
        candidates: Of one run.
        model: That they are made from.
        present: The power mode that candidates without one of their own were measured in.
        utc: When the run began; it names the run.
    """
    return tuple(
        _remembered(one, one.measurement, model, one.power_mode or present, utc)
        for one in candidates
        if one.measurement and _sound(one.measurement)
    )


def _sound(one: Measurement) -> bool:
    return one.steady and not one.throttled and not one.behind


def _remembered(
    one: Candidate, measured: Measurement, model: CleanModel, mode: str, utc: str
) -> PastMeasurement:
    predicted = one.predicted or _UNPREDICTED
    low_ms, high_ms = predicted.latency_p50_ms_ci90 or (None, None)
    span_low_ms, span_high_ms = predicted.latency_p50_ms_span or (None, None)
    return PastMeasurement(
        model=model.sha256,
        precision=one.recipe.precision,
        runtime=one.runtime,
        batch=one.batch,
        power_mode=mode,
        macs=model.macs,
        latency_p50_ms=measured.latency_ms.p50,
        energy_j=measured.energy_j,
        power_w=measured.power.mean if measured.power else None,
        predicted_ms=predicted.latency_p50_ms,
        low_ms=low_ms,
        high_ms=high_ms,
        span_low_ms=span_low_ms,
        span_high_ms=span_high_ms,
        source=predicted.source,
        dla_core=one.dla_core,
        utc=utc,
    )
