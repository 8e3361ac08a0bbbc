"""What a candidate should take, said before anything is built. Pure and numpy-free.

In order of trust: this device's own measurements of the same model, a roofline from a
micro-benchmark of the device, its measurements of other models scaled by their compute, which
say nothing of this model's traffic. Where nothing is known the answer is None with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from agent.core.journal import PastMeasurement
from agent.core.lineage import CleanModel, Prediction, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRates:
    """What one device computes per second on one runtime, found by a micro-benchmark.

    Attributes:
        fp32_macs_per_s: Multiply-accumulates per second of an FP32 convolution network.
        int8_macs_per_s: The same network with Q/DQ in the runtime's scheme.
        bytes_per_s: Bytes of activations written per second by cheap element-wise work.
        overhead_s: Time of one inference that computes next to nothing.
    """

    runtime: str
    runtime_version: str
    fp32_macs_per_s: float
    int8_macs_per_s: float
    bytes_per_s: float
    overhead_s: float


def predict(
    recipe: Recipe,
    model: CleanModel,
    runtime: str,
    batch: int,
    *,
    history: Sequence[PastMeasurement],
    rates: DeviceRates | None,
) -> Prediction:
    """Predict p50 latency and energy per inference of one candidate.

    Args:
        recipe: Its precision; calibrators of one precision take the same time.
        model: The clean model, for its sha256, macs and bytes.
        runtime: What executes it.
        batch: Frames per inference.
        history: Past measurements of this device, in any order.
        rates: The device's roofline, if it could be measured.
    """
    alike = [
        past
        for past in history
        if past.runtime == runtime and past.precision == recipe.precision and past.batch == batch
    ]
    # one file at two input sizes is two models: their compute tells them apart
    same = [past for past in alike if past.model == model.sha256 and past.macs == model.macs]
    if same:
        return Prediction(
            latency_p50_ms=median(past.latency_p50_ms for past in same),
            energy_j=_median([past.energy_j for past in same]),
            basis=f"median of {len(same)} earlier measurements of this model here",
        )
    if rates is not None:
        seconds = _roofline_s(recipe, model, rates) * batch + rates.overhead_s
        return Prediction(
            latency_p50_ms=seconds * 1e3,
            energy_j=None,
            basis="roofline from a micro-benchmark of this device",
        )
    scalable = [past for past in alike if past.macs > 0 and model.macs > 0]
    if scalable:
        return Prediction(
            latency_p50_ms=median(p.latency_p50_ms / p.macs for p in scalable) * model.macs,
            energy_j=_median([p.energy_j and p.energy_j / p.macs * model.macs for p in scalable]),
            basis=f"{len(scalable)} earlier measurements of other models here, scaled by compute",
        )
    return Prediction(
        latency_p50_ms=None,
        energy_j=None,
        basis=f"nothing known of {recipe.precision} on {runtime} here",
    )


def _roofline_s(recipe: Recipe, model: CleanModel, rates: DeviceRates) -> float:
    """Return seconds per frame: compute plus the traffic of activations, not overlapped.

    Source: the roofline model (Williams et al., CACM 2009), with the sum in place of the
    maximum, since layers of a CPU runtime do not overlap compute with each other's traffic.
    """
    if recipe.precision.startswith("int8"):
        return model.macs / rates.int8_macs_per_s + model.activation_bytes / 4 / rates.bytes_per_s
    return model.macs / rates.fp32_macs_per_s + model.activation_bytes / rates.bytes_per_s


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
