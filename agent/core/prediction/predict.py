"""Predict latency, power and energy before anything is quantized or built. Pure, numpy-free.

In order of trust: this device's own measurements of the same model, a short trial of its graph
with placeholder scales, other devices' measurements of it, this device's measurements of other
models scaled by their compute, the board's peak rates. Without any of them the prediction is None
with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log, sqrt
from statistics import median

from agent.core.prediction.history import ENERGY, LATENCY, POWER, PastMeasurement
from agent.core.prediction.priors import FleetFigure
from agent.core.prediction.residuals import conformal_half_width, residuals
from agent.core.prediction.roofline import WIDTH, Peak, expected_ms
from agent.core.records import AS_GIVEN, MIXED, UNPREDICTED, CleanModel, Prediction, Recipe

HISTORY, TRIAL, FLEET, SCALED, ROOFLINE = "history", "trial", "fleet", "other models", "roofline"
UNPROVEN: Mapping[str, float] = {
    HISTORY: 0.25,
    TRIAL: 0.25,
    FLEET: log(2),
    SCALED: log(4),
    ROOFLINE: WIDTH,
}
"""Half width, as a logarithm, of intervals until predictions of a source have been checked here.

Source: leave-one-out over this project's models on a laptop CPU: nine of ten trials were within
    20 %, and times scaled by multiply-accumulates off by 2 to 4 times. Other devices may be in
    another power mode and at another temperature, which halves or doubles their latency.
"""
_UNPROVEN_POWER = 0.25  # of the same model here; another one's may be half or twice as much


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A model's graph timed for a moment on this device, p50 in ms of one inference.

    Attributes:
        int8_ms: With Q/DQ where the scheme puts it and placeholder scales, on which a kernel's
            time does not depend.
    """

    batch: int
    fp32_ms: float
    int8_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a prediction can be based on.

    Attributes:
        history: Past measurements of this device in the power mode to predict for, in any order.
        trial: Of the model in the batch to predict for, if the runtime allows one.
        fleet: Other devices' measurements of the model on the same runtime.
        peak: The GPU's peak rates by its maker, if the GPU executes.
    """

    history: Sequence[PastMeasurement] = ()
    trial: Trial | None = None
    fleet: Sequence[FleetFigure] = ()
    peak: Peak | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Guess:
    latency_ms: float
    source: str
    basis: str
    span_ms: tuple[float, float] | None = None
    power_w: float | None = None


def predict(
    recipe: Recipe, model: CleanModel, runtime: str, batch: int, evidence: Evidence
) -> Prediction:
    """Predict latency, throughput, power and energy of one candidate.

    Args:
        recipe: Its precision; calibrators of one precision take the same time.
        model: The clean model, for its sha256 and macs.
        runtime: The runtime that executes it.
        batch: Frames per inference.
        evidence: Of this device, this graph and other devices.
    """
    alike = [
        past
        for past in evidence.history
        if past.runtime == runtime and past.precision == recipe.precision and past.batch == batch
    ]
    guess = (
        _from_history(recipe, alike, model)
        or _from_trial(recipe, evidence.trial)
        or _from_fleet(recipe, batch, evidence.fleet)
        or _from_other_models(alike, model)
        or _from_peak(recipe, model, batch, evidence.peak)
    )
    if guess is None:
        reason = f"nothing known of {recipe.precision} on {runtime} here"
        return replace(UNPREDICTED, basis=reason)
    here = _median([_power_w(past) for past in alike])
    power_w = guess.power_w if guess.power_w is not None else here
    mixed = recipe.precision == MIXED

    def width(figure: str, unproven: float) -> float:
        checked = residuals(evidence.history, guess.source, runtime, mixed=mixed, figure=figure)
        return conformal_half_width(checked, unproven)

    level = width(LATENCY, UNPROVEN[guess.source])
    span_ms = guess.span_ms or (guess.latency_ms, guess.latency_ms)
    low_ms, high_ms = _widened(span_ms, level)
    found = replace(
        UNPREDICTED,
        latency_p50_ms=guess.latency_ms,
        latency_p50_ms_span=guess.span_ms,
        latency_p50_ms_ci90=(low_ms, high_ms),
        throughput_fps=1e3 * batch / guess.latency_ms if guess.latency_ms else None,
        throughput_fps_ci90=(1e3 * batch / high_ms, 1e3 * batch / low_ms) if low_ms else None,
        basis=guess.basis,
        source=guess.source,
    )
    if power_w is None:
        return found
    own = guess.power_w is not None and guess.source == HISTORY
    assumed = _UNPROVEN_POWER if own else log(2)
    joules = [power_w * ms / 1e3 / batch for ms in (guess.latency_ms, *span_ms)]
    return replace(
        found,
        power_w=power_w,
        power_w_ci90=_widened((power_w, power_w), width(POWER, assumed)),
        energy_j=joules[0],
        energy_j_ci90=_widened((joules[1], joules[2]), width(ENERGY, level + assumed)),
    )


def _widened(span: tuple[float, float], width: float) -> tuple[float, float]:
    return span[0] * exp(-width), span[1] * exp(width)


def _from_history(
    recipe: Recipe, alike: Sequence[PastMeasurement], model: CleanModel
) -> _Guess | None:
    """Return the median of the same model; for mixed, the span of the members of its fronts."""
    # one file at two input sizes is two models of different compute
    same = [past for past in alike if past.model == model.sha256 and past.macs == model.macs]
    if not same:
        return None
    times_ms = [past.latency_p50_ms for past in same]
    return _Guess(
        latency_ms=median(times_ms),
        source=HISTORY,
        basis=f"median of {len(same)} earlier measurements of this model here",
        span_ms=(min(times_ms), max(times_ms)) if recipe.precision == MIXED else None,
        power_w=_median([_power_w(past) for past in same]),
    )


def _from_trial(recipe: Recipe, trial: Trial | None) -> _Guess | None:
    """Return the trial's latency of a precision; for mixed, the span between INT8 and float."""
    untried = recipe.precision == "fp16" or (recipe.precision == AS_GIVEN and not recipe.alone)
    if trial is None or untried:
        return None
    basis = "a short trial of the graph here, with placeholder scales"
    if recipe.precision != MIXED:
        tried_ms = trial.int8_ms if recipe.precision == "int8" else trial.fp32_ms
        return _Guess(latency_ms=tried_ms, source=TRIAL, basis=basis)
    return _between(trial.int8_ms, trial.fp32_ms, TRIAL, basis)


def _between(int8_ms: float, float_ms: float, source: str, basis: str) -> _Guess:
    low_ms, high_ms = sorted((int8_ms, float_ms))
    return _Guess(
        latency_ms=sqrt(low_ms * high_ms),
        source=source,
        basis=f"{basis}: between INT8 and float, since what stays float is found later",
        span_ms=(low_ms, high_ms),
    )


def _from_fleet(recipe: Recipe, batch: int, fleet: Sequence[FleetFigure]) -> _Guess | None:
    wanted = recipe.precision, batch
    found = next((one for one in fleet if (one.precision, one.batch) == wanted), None)
    if found is None:
        return None
    return _Guess(
        latency_ms=found.latency_ms,
        source=FLEET,
        basis=f"median of {found.count} measurements of this model elsewhere ({found.origin})",
        power_w=found.power_w,
    )


def _from_other_models(alike: Sequence[PastMeasurement], model: CleanModel) -> _Guess | None:
    scalable = [past for past in alike if past.macs > 0 and model.macs > 0]
    if not scalable:
        return None
    return _Guess(
        latency_ms=median(p.latency_p50_ms / p.macs for p in scalable) * model.macs,
        source=SCALED,
        basis=f"{len(scalable)} earlier measurements of other models here, scaled by compute",
    )


def _from_peak(recipe: Recipe, model: CleanModel, batch: int, peak: Peak | None) -> _Guess | None:
    if peak is None or recipe.precision == AS_GIVEN:  # what of it is in INT8 was not counted
        return None
    basis = "a quarter of the board's quoted peak, since nothing was measured here yet"
    ends = ("int8", "fp16") if recipe.precision == MIXED else (recipe.precision,)
    found = [ms for one in ends if (ms := expected_ms(model, one, batch, peak))]
    if not found:
        return None
    if recipe.precision == MIXED:
        return _between(found[0], found[-1], ROOFLINE, basis)
    return _Guess(latency_ms=found[0], source=ROOFLINE, basis=basis)


def _power_w(past: PastMeasurement) -> float | None:
    if past.power_w is not None:
        return past.power_w
    if past.energy_j is None or past.latency_p50_ms <= 0:
        return None
    return past.energy_j * past.batch / (past.latency_p50_ms / 1e3)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
