"""How near predictions come: made before anything is calibrated, checked by measuring.

Each model is tried for a moment in FP32 and in INT8 with placeholder scales; then it is really
quantized and measured by the product's own stage. A model's interval comes from the errors of
the other models only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from math import log
from pathlib import Path
from statistics import median

from agent.adapters.clock_system import SystemClock
from agent.adapters.intake_onnx import OnnxIntake
from agent.adapters.quantizer_onnx import OnnxQuantizer
from agent.adapters.runner_onnxruntime import OnnxruntimeRunner
from agent.adapters.trial_onnxruntime import time_trial
from agent.config import Measure
from agent.core.energy import Conditions
from agent.core.past import PastMeasurement
from agent.core.prediction import TRIAL, UNPROVEN
from agent.core.preprocess import InputSpec
from agent.core.residuals import reach, residuals
from agent.core.thresholds import range_of
from agent.graphs.qdq import inferred, quantized_tensors, save, with_qdq
from agent.stages.measure import measure
from tests.benchmarks.measuring.rows import Row
from tests.benchmarks.quality.material import MODELS, UnavailableError
from tests.benchmarks.quality.peers import CACHE
from tests.support import quant_graphs
from tests.support.candidates import engine
from tests.support.onnx_runs import random_inputs

_SCHEME = "U8S8"
_PROTOCOL = Measure(warmup_s=1.0, duration_s=4.0, rounds=5, idle_s=0.0)
_FRAMES = 4
_SIZES = ((256, 192), (320, 256), (480, 384), (640, 480))
_NOTHING = PastMeasurement(
    model="", precision="", runtime="onnxruntime", batch=1, power_mode="", macs=1,
    latency_p50_ms=1.0, energy_j=None, predicted_ms=1.0, utc="", source=TRIAL,
)  # fmt: skip


def rows() -> list[Row]:
    """Return the median error of p50, and how often the 90 % interval held it."""
    pairs: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory(prefix="quantd-bench-") as directory:
        for name, model in models(Path(directory)).items():
            folder = Path(directory, name)
            folder.mkdir()
            for precision, pair in _predicted_and_measured(model, folder).items():
                pairs[f"{name} {precision}"] = pair
    errors = {name: abs(found / predicted - 1) for name, (predicted, found) in pairs.items()}
    held = {name: _held(name, pairs) for name in pairs}
    share = sum(held.values()) / len(held)
    detail: dict[str, object] = {
        "pairs_ms": {name: [round(value, 4) for value in pair] for name, pair in pairs.items()},
        "held": held,
    }
    count = f"{len(pairs)} models and precisions"
    return [
        Row(
            what=f"predicted p50 of {count} on this CPU, against the measured one",
            goal="median error under 10 %",
            found=f"{median(errors.values()):.1%} (largest {max(errors.values()):.1%})",
            met=median(errors.values()) < 0.10,
            detail=detail,
        ),
        Row(
            what=f"90 % interval of the prediction, leave-one-out over {count}",
            goal="covers 90 %",
            found=f"{share:.0%}",
            met=share >= 0.9,
            detail={},
        ),
    ]


def _held(name: str, pairs: dict[str, tuple[float, float]]) -> bool:
    """Return whether an interval from the other models' errors holds this one's p50."""
    model = name.rpartition(" ")[0]
    others = [
        replace(
            _NOTHING, predicted_ms=predicted, latency_p50_ms=found, utc=other.rpartition(" ")[0]
        )
        for other, (predicted, found) in pairs.items()
        if other.rpartition(" ")[0] != model
    ]
    predicted, found = pairs[name]
    checked = residuals(others, TRIAL, _NOTHING.runtime)
    return abs(log(found / predicted)) <= reach(checked, UNPROVEN[TRIAL])


def _predicted_and_measured(model: str, folder: Path) -> dict[str, tuple[float, float]]:
    trial = time_trial(model, 1, _SCHEME, 0, ())
    graphs = {"fp32": model, "int8": quantized(model, str(folder / "int8.onnx"))}
    frames = [random_inputs(inferred(model), seed) for seed in range(_FRAMES)]
    found = measure(
        {name: engine(name=name) for name in graphs},
        _PROTOCOL,
        make_runner=lambda one: OnnxruntimeRunner(graphs[one.digest], 0),
        tensors=lambda _: frames,
        power="not asked for",
        clock=SystemClock(),
        conditions=Conditions,
        seed=0,
        progress=lambda *_: None,
    ).measured
    predicted = {"fp32": trial.fp32_ms, "int8": trial.int8_ms}
    return {name: (predicted[name], found[name].latency_ms.p50) for name in graphs}


def quantized(model: str, target: str) -> str:
    """Write the INT8 graph of a clean model, calibrated on random inputs; return its path."""
    graph = inferred(model)
    frames = [random_inputs(graph, seed) for seed in range(_FRAMES)]
    collected = OnnxQuantizer(0).collect(model, frames, len(frames), lambda *_: None)
    ranges = {one.name: range_of(one, "minmax", False) for one in collected}
    known = {name: ranges[name] for name in quantized_tensors(graph, _SCHEME) if name in ranges}
    save(with_qdq(graph, _SCHEME, known), target)
    return target


def models(folder: Path) -> dict[str, str]:
    """Return paths of clean models: real ones in four sizes each, and networks made up here."""
    made: dict[str, Callable[[Path], str]] = {
        "inverted": quant_graphs.inverted,
        "detector": quant_graphs.detector,
        "classifier": quant_graphs.classifier,
    }
    found = {name: make(folder / f"{name}.onnx") for name, make in made.items()}
    for model in MODELS:
        try:
            path = model.locate(None, CACHE)
        except UnavailableError:
            continue
        for width, height in _SIZES:
            name = f"{model.name}-{width}"
            target = folder / f"clean-{name}"
            target.mkdir()
            OnnxIntake().clean(str(path), name, InputSpec(width=width, height=height), str(target))
            found[name] = str(target / "model.onnx")
    return found
