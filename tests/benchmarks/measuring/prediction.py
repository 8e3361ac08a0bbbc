"""How near predictions come: made before anything is calibrated, checked by measuring.

Each model is tried for a moment in FP32 and in INT8 with placeholder scales; then it is really
quantized, to INT8 and to INT8 with half of its layers in float, and measured by the product's own
stage, twice. What a prediction stands on beside the trial, and the width of its interval, come
from the other models, or from the first measurement of the same one. The roofline is not checked:
it is for TensorRT on a board, and neither is here.

Everything has one thread an inference: with two, one graph took 14 ms or 23 ms on a virtual machine,
as its host gave the second core or not, and no prediction knows which.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from agent.adapters.engines.runner_onnxruntime import OnnxruntimeRunner
from agent.adapters.engines.trial_onnxruntime import time_trial
from agent.adapters.graphs.intake import OnnxIntake
from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.adapters.host.clock import SystemClock
from agent.config import Measure
from agent.core.frames.input_spec import InputSpec
from agent.core.measurement.power import Conditions
from agent.core.prediction.history import PastMeasurement, remembered
from agent.core.prediction.predict import HISTORY, SCALED, TRIAL, Evidence, Trial, predict
from agent.core.prediction.residuals import Accuracy, accuracy
from agent.core.quantization.calibrators import range_of
from agent.core.records import Candidate, CleanModel, Digest, Measurement, Prediction, Recipe
from agent.graphs.compute import node_macs
from agent.graphs.qdq import load_inferred, quantized_tensors, save, with_qdq
from agent.stages.measuring.measure import measure
from tests.benchmarks.quality.material import MODELS, UnavailableError
from tests.benchmarks.quality.peers import CACHE
from tests.benchmarks.rows import Row
from tests.support import quant_graphs
from tests.support.candidates import engine
from tests.support.onnx_runs import random_inputs

_SCHEME, _RUNTIME = "U8S8", "onnxruntime"
_PROTOCOL = Measure(warmup_s=1.0, duration_s=4.0, rounds=5, idle_s=0.0)
_BEFORE = Measure(warmup_s=0.5, duration_s=1.0, rounds=5, idle_s=0.0)
_FRAMES = 4
THREADS = 1
_REAL = ("centerface", "ppocr")  # they take any size
_SIZES = ((256, 192), (320, 256), (480, 384), (640, 480))
_STANDS_ON = {
    TRIAL: "a trial",
    SCALED: "other models measured here",
    HISTORY: "an earlier, shorter measurement of the same",
}

Measured = Mapping[str, Measurement]
"""By precision."""


def rows() -> list[Row]:
    """Return how near p50 came and how often the 90 % interval held it, by source."""
    models_: list[CleanModel] = []
    trials: dict[str, Trial] = {}
    before: dict[str, Measured] = {}
    found: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="quantd-bench-") as directory:
        for name, path in models(Path(directory)).items():
            folder = Path(directory, name)
            folder.mkdir()
            models_.append(_clean(name, path))
            trials[name] = time_trial(path, 1, _SCHEME, THREADS, ())
            graphs = _graphs(path, folder)
            before[name] = _measured(graphs, _BEFORE)
            found[name] = _measured(graphs, _PROTOCOL)
    checked = [
        *_checked(models_, found, trials=trials),
        *_checked(models_, found),
        *_checked(models_, found, before=before),
    ]
    together = [replace(one, precision="every precision") for one in checked]
    return [_row(one) for one in accuracy([*together, *checked]) if one.source != "all"]


def _row(one: Accuracy) -> Row:
    tried = one.source == TRIAL and one.precision != "int8-mixed"
    held = one.inside or 0.0
    return Row(
        what=f"p50 of {one.count} graphs in {one.precision}, predicted from "
        f"{_STANDS_ON[one.source]}",
        goal=f"{'half within 10 %, ' if tried else ''}90 % interval holds",
        found=f"half within {one.median_off:.1%}, nine of ten within {one.p90_off:.1%}; "
        f"interval held {held:.0%}",
        met=held >= 0.9 and (one.median_off < 0.10 or not tried),
        detail={},
    )


def _checked(
    models_: Sequence[CleanModel],
    found: Mapping[str, Measured],
    *,
    trials: Mapping[str, Trial] | None = None,
    before: Mapping[str, Measured] | None = None,
) -> list[PastMeasurement]:
    """Return every measurement with its prediction, whose width comes from the other models."""

    def run(model: CleanModel, history: Sequence[PastMeasurement]) -> list[PastMeasurement]:
        others = [past for past in history if past.model != model.sha256]
        own = _remembered(model, before[model.name], None, "before") if before else []
        trial = trials[model.name] if trials else None
        evidence = Evidence(history=[*own, *others], trial=trial)
        return _remembered(model, found[model.name], evidence, f"run of {model.name}")

    past = [one for m in models_ for one in _remembered(m, found[m.name], None, m.name)]
    for _ in range(2):  # without errors to go by, then with those of the others
        past = [one for model in models_ for one in run(model, past)]
    return past


def _remembered(
    model: CleanModel, measured: Measured, evidence: Evidence | None, utc: str
) -> list[PastMeasurement]:
    def predicted(recipe: Recipe) -> Prediction | None:
        return predict(recipe, model, _RUNTIME, 1, evidence) if evidence else None

    candidates = [
        Candidate(id=name, recipe=recipe, runtime=_RUNTIME, measurement=one,
                  predicted=predicted(recipe))
        for name, one in measured.items()
        for recipe in [Recipe(precision=name)]
    ]  # fmt: skip
    return list(remembered(candidates, model, "", utc))


def _clean(name: str, path: str) -> CleanModel:
    return CleanModel(
        digest=Digest(name), name=name, sha256=name, opset=17, inputs=(), outputs=(),
        macs=sum(count for _, count in node_macs(load_inferred(path))), weight_bytes=0,
        activation_bytes=0, changes=(),
    )  # fmt: skip


def _graphs(path: str, folder: Path) -> dict[str, str]:
    layers = [node.name for node, _ in node_macs(load_inferred(path))]
    return {
        "fp32": path,
        "int8": quantized(path, str(folder / "int8.onnx")),
        "int8-mixed": quantized(path, str(folder / "mixed.onnx"), layers[: len(layers) // 2]),
    }


def _measured(graphs: Mapping[str, str], protocol: Measure) -> Measured:
    frames = [random_inputs(load_inferred(graphs["fp32"]), seed) for seed in range(_FRAMES)]
    return measure(
        {name: engine(name=name) for name in graphs},
        protocol,
        make_runner=lambda one: OnnxruntimeRunner(graphs[one.digest], THREADS),
        tensors=lambda _: frames,
        power="not asked for",
        clock=SystemClock(),
        conditions=Conditions,
        seed=0,
        progress=lambda *_: None,
    ).measured


def quantized(model: str, target: str, left_out: Sequence[str] = ()) -> str:
    """Write the INT8 graph of a clean model, calibrated on random inputs; return its path."""
    graph = load_inferred(model)
    frames = [random_inputs(graph, seed) for seed in range(_FRAMES)]
    collected = OnnxQuantizer(0).collect(model, frames, len(frames), lambda *_: None)
    ranges = {one.name: range_of(one, "minmax", False) for one in collected}
    known = {name: ranges[name] for name in quantized_tensors(graph, _SCHEME) if name in ranges}
    save(with_qdq(graph, _SCHEME, known, left_out), target)
    return target


def models(folder: Path) -> dict[str, str]:
    """Return paths of clean models: real ones in four sizes each, and networks made up here."""
    made: dict[str, Callable[[Path], str]] = {
        "inverted": quant_graphs.inverted,
        "detector": quant_graphs.detector,
        "classifier": quant_graphs.classifier,
    }
    found = {name: make(folder / f"{name}.onnx") for name, make in made.items()}
    for model in (model for model in MODELS if model.name in _REAL):
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
