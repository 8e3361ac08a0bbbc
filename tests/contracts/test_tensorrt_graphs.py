"""Every graph that quantd makes for TensorRT parses and builds there, by NVIDIA's own builder."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from agent.adapters.engines.builder_onnxruntime import OnnxruntimeBuilder
from agent.adapters.engines.builder_tensorrt import BuilderSettings, TensorrtBuilder
from agent.adapters.graphs.intake import OnnxIntake
from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.errors import BuildError, ConfigError
from agent.core.frames.input_spec import InputSpec
from agent.demo.material import face_detector
from agent.graphs.qdq import load_inferred
from tests.benchmarks.quality.material import UnavailableError, text_detector
from tests.support import exported_graphs, quant_graphs, quantized_files
from tests.support.engine_builds import CAPABILITY, require_tensorrt
from tests.support.onnx_runs import run
from tests.support.parts import missing_part
from tests.support.recipes import RECIPES, SCHEME, frames, quantized

pytestmark = pytest.mark.slow
_COMPUTE = {"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"}


def centerface(path: Path) -> str:
    """Return the real detector, as it is published."""
    try:
        return str(face_detector())
    except ConfigError as e:
        missing_part("the demo's material", e.message)


def ppocr(path: Path) -> str:
    """Return PP-OCR's text detector, with 672 nodes the largest of all."""
    found = _downloaded(path.parent)
    if isinstance(found, UnavailableError):
        missing_part("PP-OCR's detector", str(found))
    return str(found)


@functools.cache
def _downloaded(folder: Path) -> Path | UnavailableError:
    try:
        return text_detector(None, folder)
    except UnavailableError as e:
        return e


CLEAN = [
    quant_graphs.detector,
    quant_graphs.classifier,
    quant_graphs.inverted,
    quant_graphs.affine,
]
RAW: list[tuple[Callable[[Path], str], InputSpec]] = [
    (exported_graphs.camera_bytes, InputSpec(width=32, height=32, layout="NHWC", dtype="uint8")),
    (exported_graphs.mobile, InputSpec(width=0, height=0)),
    (exported_graphs.pyramid, InputSpec(width=64, height=32)),
    (exported_graphs.attention, InputSpec(width=0, height=0)),
    (centerface, InputSpec(width=320, height=256)),
    (ppocr, InputSpec(width=320, height=256)),
]
FILES = Path(__file__).parents[1] / "fixtures" / "models"
KINDS = sorted({file.stem for file in FILES.glob("*.onnx")} - {"two_stage"})  # it has NonZero
NOT_PER_PICTURE = {"constant_output"}  # in a batch its anchors stay as they are
NAMES = [make.__name__ for make in CLEAN] + [make.__name__ for make, _ in RAW] + KINDS
BATCHED = [name for name in NAMES if name not in NOT_PER_PICTURE]
_MINUTES = [pytest.mark.faults, pytest.mark.timeout(580)]
LONG = {("centerface", "conditioned"), ("ppocr", "conditioned")}  # weights of large models
GRAPHS = [
    pytest.param(name, recipe, marks=_MINUTES if (name, recipe) in LONG else [])
    for name in NAMES
    for recipe in RECIPES
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return a function that makes a model ordinary, once."""
    require_tensorrt()
    folder = tmp_path_factory.mktemp("models")
    made = {make.__name__: make for make in CLEAN} | {make.__name__: make for make, _ in RAW}
    specs = {make.__name__: spec for make, spec in RAW}

    def model(name: str) -> str:
        work = folder / name
        work.mkdir(exist_ok=True)
        if not (work / "model.onnx").exists():
            if name in made and name not in specs:
                return made[name](work / "model.onnx")
            source = made[name](work / "raw.onnx") if name in made else str(FILES / f"{name}.onnx")
            dtype = "float16" if name == "half_precision" else "float32"
            spec = specs.get(name, InputSpec(width=0, height=0, dtype=dtype))
            OnnxIntake().clean(source, name, spec, str(work))
        return str(work / "model.onnx")

    return model


@pytest.mark.parametrize(("name", "recipe"), GRAPHS)
def test_every_graph_builds_with_its_own_precision(tmp_path, models, name, recipe):
    target, layers, floating = quantized(recipe, models(name), tmp_path)
    settings = BuilderSettings(compute_capability=CAPABILITY, device="elsewhere")
    TensorrtBuilder(settings).build(target, 1, str(tmp_path), lambda *_: None)
    assert (tmp_path / "engine.plan").stat().st_size > 0
    network = json.loads((tmp_path / "layers.json").read_bytes())["network"]
    reported = {x["name"]: x["precision"] for x in network if x["type"] in _COMPUTE}
    assert reported
    if recipe == "fp32":
        assert set(reported.values()) == {"FLOAT"}
    elif recipe == "fp16":
        assert "HALF" in reported.values()
    else:
        assert {n for n, precision in reported.items() if precision == "INT8"} == layers - floating


@pytest.mark.parametrize("recipe", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", BATCHED)
def test_every_graph_builds_in_a_batch(tmp_path, models, name, recipe):
    target, _, _ = quantized(recipe, models(name), tmp_path)
    settings = BuilderSettings(compute_capability=CAPABILITY, device="elsewhere")
    TensorrtBuilder(settings).build(target, 3, str(tmp_path), lambda *_: None)
    assert (tmp_path / "engine.plan").stat().st_size > 0


def test_a_graph_that_is_not_parsed_is_refused_by_its_node_in_every_precision(tmp_path, models):
    settings = BuilderSettings(compute_capability=CAPABILITY, device="elsewhere")
    for recipe in RECIPES:
        target, _, _ = quantized(recipe, models("two_stage"), tmp_path)
        with pytest.raises(BuildError, match="NonZero") as caught:
            TensorrtBuilder(settings).build(target, 1, str(tmp_path), lambda *_: None)
        assert caught.value.code == "not_parsed"


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ("QDQ-S8", ""),
        ("QDQ-U8", "zero point"),
        ("QOperator-S8", "QLinearConv"),
        ("dynamic", "DynamicQuantizeLinear"),
    ],
)
def test_a_quantized_file_builds_as_given_or_says_why_not(tmp_path, kind, refused):
    require_tensorrt()
    raw = quantized_files.quantized(quant_graphs.detector(tmp_path / "float.onnx"), kind)
    onnx.save(raw, tmp_path / "raw.onnx")
    spec = InputSpec(width=0, height=0)
    OnnxIntake().clean(str(tmp_path / "raw.onnx"), "m", spec, str(tmp_path))
    target = str(tmp_path / "given.onnx")
    OnnxQuantizer(1).take_as_given(str(tmp_path / "model.onnx"), SCHEME, target)
    builder = TensorrtBuilder(BuilderSettings(compute_capability=CAPABILITY, device="elsewhere"))
    if refused:
        with pytest.raises(BuildError, match=refused):
            builder.build(target, 1, str(tmp_path), lambda *_: None)
        return
    builder.build(target, 1, str(tmp_path), lambda *_: None)
    network = json.loads((tmp_path / "layers.json").read_bytes())["network"]
    assert {x["precision"] for x in network if x["type"] in _COMPUTE} == {"INT8"}


def test_a_workspace_that_is_too_small_is_named(tmp_path, models):
    settings = BuilderSettings(workspace_mb=1, compute_capability=CAPABILITY)
    with pytest.raises(BuildError, match="OutOfMemory") as caught:
        TensorrtBuilder(settings).build(models("centerface"), 1, str(tmp_path), lambda *_: None)
    assert "runtime.workspace_mb = 1" in caught.value.hint


@pytest.mark.parametrize("name", BATCHED)
def test_images_of_a_batch_are_what_they_are_alone(tmp_path, models, name):
    """The graph of a batch is the same for both runtimes; ONNX Runtime can execute it here."""
    model = models(name)
    images = frames(model, 3)
    (key,) = images[0]
    OnnxruntimeBuilder(1, "CPU").build(model, 3, str(tmp_path), lambda *_: None)
    together = {key: np.concatenate([image[key] for image in images])}
    alone = [run(model, image) for image in images]
    for index, found in enumerate(run(str(tmp_path / "model.onnx"), together)):
        wanted = np.concatenate([one[index] for one in alone])
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_the_inputs_are_what_they_should_be(models):
    """The byte input and several outputs got through the intake."""
    graph = load_inferred(models("camera_bytes")).graph
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert len(graph.output) == len(load_inferred(models("pyramid")).graph.output) == 2
