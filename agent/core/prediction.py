"""What a candidate should take, said before anything is quantized or built. Pure, numpy-free.

In order of trust: this device's own measurements of the same model, a short trial of its graph
with placeholder scales, this device's measurements of other models scaled by their compute.
Where nothing is known the answer is None with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, log, sqrt
from statistics import median

from agent.core.journal import PastMeasurement
from agent.core.lineage import CleanModel, Prediction, Recipe

COVERAGE = 0.9
_UNPROVEN = 0.25
"""Half width, as a logarithm, of intervals until predictions have been checked here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A model's graph timed for a moment on this device, p50 in ms of one inference.

    Attributes:
        int8_ms: With Q/DQ where the scheme puts it and scales that mean nothing: what a kernel
            takes does not depend on them.
    """

    batch: int
    fp32_ms: float
    int8_ms: float


def predict(
    recipe: Recipe,
    model: CleanModel,
    runtime: str,
    batch: int,
    *,
    history: Sequence[PastMeasurement],
    trial: Trial | None,
) -> Prediction:
    """Predict latency, throughput, power and energy of one candidate.

    Args:
        recipe: Its precision; calibrators of one precision take the same time.
        model: The clean model, for its sha256 and macs.
        runtime: What executes it.
        batch: Frames per inference.
        history: Past measurements of this device, in any order.
        trial: Of this model in this batch, if the runtime allows one.
    """
    alike = [
        past
        for past in history
        if past.runtime == runtime and past.precision == recipe.precision and past.batch == batch
    ]
    # one file at two input sizes is two models: their compute tells them apart
    same = [past for past in alike if past.model == model.sha256 and past.macs == model.macs]
    scalable = [past for past in alike if past.macs > 0 and model.macs > 0]
    if same:
        latency_ms = median(past.latency_p50_ms for past in same)
        basis = f"median of {len(same)} earlier measurements of this model here"
    elif trial is not None:
        latency_ms = _tried(recipe, trial)
        basis = "a short trial of the graph here, with placeholder scales"
    elif scalable:
        latency_ms = median(p.latency_p50_ms / p.macs for p in scalable) * model.macs
        basis = f"{len(scalable)} earlier measurements of other models here, scaled by compute"
    else:
        return Prediction(
            latency_p50_ms=None,
            energy_j=None,
            basis=f"nothing known of {recipe.precision} on {runtime} here",
        )
    power_w = _median([_power_w(past) for past in same or alike])
    low, high = _span(recipe, trial if not same else None)
    reach = residual([past for past in history if past.runtime == runtime])
    return Prediction(
        latency_p50_ms=latency_ms,
        latency_p50_ms_ci90=(low * latency_ms * exp(-reach), high * latency_ms * exp(reach)),
        throughput_fps=1e3 * batch / latency_ms if latency_ms else None,
        power_w=power_w,
        energy_j=power_w * latency_ms / 1e3 / batch if power_w is not None else None,
        basis=basis,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How near predictions came.

    Attributes:
        count: Predictions that a measurement has checked.
        median_off: Half of them were this near, as a share of the prediction.
        p90_off: Nine of ten were.
        interval: Half width of the next prediction's interval.
    """

    count: int
    median_off: float | None
    p90_off: float | None
    interval: float


def accuracy(history: Sequence[PastMeasurement]) -> Accuracy:
    """Return how near the predictions of past measurements came to them."""
    off = sorted(
        abs(past.latency_p50_ms / past.predicted_ms - 1) for past in history if past.predicted_ms
    )
    return Accuracy(
        count=len(off),
        median_off=median(off) if off else None,
        p90_off=off[ceil(COVERAGE * len(off)) - 1] if off else None,
        interval=exp(residual(history)) - 1,
    )


def residual(history: Sequence[PastMeasurement]) -> float:
    """Return the half width, as a logarithm, that held 90 % of what was predicted so far.

    Source: split conformal prediction (Vovk et al., "Algorithmic Learning in a Random World",
        2005): the ceil(0.9 (n + 1))-th smallest of n absolute residuals; with fewer than nine
        no residual is far enough out, and 25 % is assumed.
    """
    off = sorted(
        abs(log(past.latency_p50_ms / past.predicted_ms))
        for past in history
        if past.predicted_ms and past.latency_p50_ms > 0
    )
    rank = ceil(COVERAGE * (len(off) + 1))
    return off[rank - 1] if rank <= len(off) else max([_UNPROVEN, *off[-1:]])


def _tried(recipe: Recipe, trial: Trial) -> float:
    """Return what a precision took in the trial; mixed lies between its two ends."""
    if recipe.precision == "int8":
        return trial.int8_ms
    if recipe.precision == "int8-mixed":
        return sqrt(trial.int8_ms * trial.fp32_ms)
    return trial.fp32_ms


def _span(recipe: Recipe, trial: Trial | None) -> tuple[float, float]:
    """Return how far, as factors, a precision may lie from its point for what it is."""
    if trial is None or recipe.precision != "int8-mixed":
        return 1.0, 1.0
    ends = sorted((trial.int8_ms, trial.fp32_ms))
    middle = _tried(recipe, trial)
    return ends[0] / middle, ends[1] / middle


def _power_w(past: PastMeasurement) -> float | None:
    if past.energy_j is None or past.latency_p50_ms <= 0:
        return None
    return past.energy_j * past.batch / (past.latency_p50_ms / 1e3)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
