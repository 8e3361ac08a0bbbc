"""The EngineBuilder port on ONNX Runtime and on the real TensorRT-RTX, for a GPU elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from agent.adapters.engines.builder_onnxruntime import OnnxruntimeBuilder
from agent.adapters.engines.builder_tensorrt import BuilderSettings, TensorrtBuilder
from agent.adapters.graphs.intake import OnnxIntake
from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.errors import BuildError
from agent.core.frames.input_spec import InputSpec
from agent.core.quantization.mixed_search import Placement
from agent.engines.layers import engine_layers
from agent.engines.tensorrt import (
    capabilities,
    find_tensorrt,
    make_logger,
    without_garbage_collection,
)
from agent.graphs.qdq import load_inferred
from tests.support import batch_graphs, exported_graphs, quant_graphs
from tests.support.engine_builds import CAPABILITY, require_tensorrt
from tests.support.onnx_runs import random_inputs, run
from tests.support.trials import trial_of

pytestmark = pytest.mark.slow


def tensorrt(**settings):
    require_tensorrt()
    where = {"compute_capability": CAPABILITY, "device": f"compute capability {CAPABILITY}"}
    return TensorrtBuilder(BuilderSettings(**{**where, **settings}))


def onnxruntime_builder():
    return OnnxruntimeBuilder(1, "CPU")


BUILDERS = [onnxruntime_builder, tensorrt]


def silent(*_):
    """Take progress and forget it."""


def built(builder, model, folder, batch=1, progress=silent):
    folder.mkdir(exist_ok=True)
    name, _ = builder.build(model, batch, str(folder), progress)
    assert (folder / name).stat().st_size > 0
    return folder / name


def int8(model, target, kept=(), scheme="S8S8"):
    inputs = [random_inputs(load_inferred(model), seed) for seed in range(4)]
    found = OnnxQuantizer(1).collect(model, inputs, len(inputs), silent)
    placement = Placement(calibrator="minmax", kept=frozenset(kept))
    trial_of(model, scheme, found, inputs).write(placement, str(target))
    return str(target)


@pytest.fixture
def detector(tmp_path):
    return quant_graphs.detector(tmp_path / "model.onnx")


@pytest.mark.parametrize("make", BUILDERS)
def test_a_graph_becomes_a_file_and_progress_is_reported(tmp_path, detector, make):
    reported = []
    builder = make()
    built(builder, detector, tmp_path / "out", progress=lambda *step: reported.append(step))
    assert reported
    assert all(0 <= done <= total for done, total, _ in reported)
    assert builder.runnable == (builder.runtime == "onnxruntime")


@pytest.mark.parametrize("make", BUILDERS)
@pytest.mark.parametrize("batch", [2, 5])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_batch_that_is_built_in_is_taken_out(tmp_path, make, batch, precision):
    model = batch_graphs.heads(tmp_path / "model.onnx")
    if precision == "int8":
        model = int8(model, tmp_path / "int8.onnx")
    built(make(), model, tmp_path / "out", batch)


def test_images_of_a_batch_are_what_they_are_alone(tmp_path):
    model = batch_graphs.heads(tmp_path / "model.onnx")
    together = built(onnxruntime_builder(), model, tmp_path / "out", batch=3)
    images = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    found = run(str(together), {"x": images})
    alone = [run(model, {"x": image[None]}) for image in images]
    for index, value in enumerate(found):
        wanted = np.concatenate([one[index] for one in alone])
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", BUILDERS)
@pytest.mark.parametrize("graph", [batch_graphs.rows, batch_graphs.frozen])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_batch_that_can_not_be_taken_out_is_refused(tmp_path, make, graph, precision):
    model = graph(tmp_path / "model.onnx")
    if precision == "int8":
        model = int8(model, tmp_path / "int8.onnx")
    built(make(), model, tmp_path / "one")
    with pytest.raises(BuildError, match="batch 2: ") as caught:
        built(make(), model, tmp_path / "two", batch=2)
    assert "search.batch" in caught.value.hint


def test_layers_list_what_is_int8(tmp_path, detector):
    quantized = int8(detector, tmp_path / "int8.onnx", kept=("block",))
    built(tensorrt(), quantized, tmp_path / "out")
    reported = json.loads((tmp_path / "out" / "layers.json").read_bytes())
    precision = {layer["name"]: layer["precision"] for layer in reported["network"]}
    assert {n: precision[n] for n in ("stem", "block", "up", "head")} == {
        "stem": "INT8", "block": "FLOAT", "up": "INT8", "head": "INT8",
    }  # fmt: skip
    types = {layer["name"]: layer["type"] for layer in reported["network"]}
    assert (types["stem"], types["up"]) == ("CONVOLUTION", "DECONVOLUTION")
    assert reported["engine"] is None
    assert "not here" in reported["engine_reason"]


@pytest.mark.parametrize(
    ("make", "scheme", "expected"),
    [(tensorrt, "S8S8", (3, 0, 1)), (onnxruntime_builder, "U8S8", (2, 0, 2))],
    ids=["tensorrt", "onnxruntime, which has no integer kernel for ConvTranspose"],
)
def test_what_the_runtime_made_of_the_graph_is_counted(tmp_path, detector, make, scheme, expected):
    quantized = int8(detector, tmp_path / "int8.onnx", kept=("block",), scheme=scheme)
    (tmp_path / "out").mkdir()
    for model, wanted in ((detector, (0, 0, 4)), (quantized, expected)):
        _, found = make().build(model, 1, str(tmp_path / "out"), silent)
        assert (found.int8, found.fp16, found.fp32) == wanted
        assert found.told_by
    assert found.conversions
    assert not list((tmp_path / "out").glob("profile*"))


def test_onnxruntimes_nodes_are_listed_with_their_providers(tmp_path, detector):
    built(onnxruntime_builder(), detector, tmp_path / "out")
    reported = json.loads((tmp_path / "out" / "layers.json").read_bytes())
    assert {one["provider"] for one in reported["nodes"]} == {"CPUExecutionProvider"}
    assert {one["operator"] for one in reported["nodes"]} >= {"ConvTranspose"}


def test_layers_of_a_float_graph_are_what_they_compute_in(tmp_path, detector):
    half = str(tmp_path / "half.onnx")
    OnnxQuantizer(1).convert(detector, "fp16", [random_inputs(load_inferred(detector))], half)
    for model, wanted in ((detector, "FLOAT"), (half, "HALF")):
        built(tensorrt(), model, tmp_path / wanted)
        reported = json.loads((tmp_path / wanted / "layers.json").read_bytes())
        found = {
            layer["precision"] for layer in reported["network"] if layer["type"] == "CONVOLUTION"
        }
        assert found == {wanted}


def test_matrix_products_are_reported_too(tmp_path):
    model = quant_graphs.classifier(tmp_path / "model.onnx")
    built(tensorrt(), int8(model, tmp_path / "int8.onnx"), tmp_path / "out")
    reported = json.loads((tmp_path / "out" / "layers.json").read_bytes())
    found = {layer["name"]: layer["precision"] for layer in reported["network"]}
    assert found["logits"] == found["conv"] == "INT8"


def test_an_operator_that_tensorrt_refuses_is_named(tmp_path):
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "relu"),
        helper.make_node("Det", ["r"], ["y"], "determinant"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = str(tmp_path / "model.onnx")
    onnx.save(model, path)
    with pytest.raises(BuildError, match=r"determinant \(Det\): ") as caught:
        built(tensorrt(), path, tmp_path / "out")
    assert caught.value.code == "not_parsed"
    assert "onnxruntime" in caught.value.hint
    assert len(caught.value.message) < 800


def test_an_output_whose_size_depends_on_the_picture_is_refused_before_the_build(tmp_path):
    raw = exported_graphs.suppressed(tmp_path / "raw.onnx")
    OnnxIntake().clean(raw, "m", InputSpec(width=32, height=32), str(tmp_path))
    reported = []
    with pytest.raises(BuildError, match=r"output \w+ is \[-1, 3\]: its size depends") as caught:
        built(tensorrt(), str(tmp_path / "model.onnx"), tmp_path / "out",
              progress=lambda *step: reported.append(step))  # fmt: skip
    assert "without NonMaxSuppression" in caught.value.hint
    assert reported == []


def test_a_graph_of_open_shape_is_refused_in_words(tmp_path, detector):
    """The intake fixes every shape; what gets here without one has come another way."""
    model = onnx.load(detector)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    open_ = str(tmp_path / "open.onnx")
    onnx.save(model, open_)
    with pytest.raises(BuildError, match=r"input x is \[-1, 3, 32, 32\]") as caught:
        built(tensorrt(), open_, tmp_path / "out")
    assert "search.batch" in caught.value.hint


@pytest.mark.parametrize("level", range(6))
def test_every_builder_level_builds(tmp_path, detector, level):
    built(tensorrt(level=level, workspace_mb=64), detector, tmp_path / "out")


def test_every_capability_that_is_reported_as_known_builds(tmp_path, detector):
    require_tensorrt()
    quantized = int8(detector, tmp_path / "int8.onnx")
    known = capabilities(find_tensorrt(cross=True))
    assert list(known)[:3] == ["7.5", "8.0", "8.6"]
    for name in known:
        built(tensorrt(compute_capability=name), quantized, tmp_path / name)


def test_a_capability_that_is_not_known_is_named_with_those_that_are(tmp_path, detector):
    with pytest.raises(BuildError, match=r"compute capability 8\.7") as caught:
        built(tensorrt(compute_capability="8.7"), detector, tmp_path / "out")
    assert caught.value.code == "no_capability"
    assert "8.6, 8.9, 12.0" in caught.value.hint


def test_a_closed_pipe_for_progress_ends_the_build(tmp_path, detector):
    def gone(*_):
        raise BrokenPipeError

    with pytest.raises(BuildError, match=r"[Cc]ancel"):
        built(tensorrt(), detector, tmp_path / "out", progress=gone)
    assert not Path(tmp_path, "out", "engine.plan").exists()


class OnDevice:
    """TensorRT-RTX taken for the full TensorRT, with a runtime that loads or refuses engines."""

    __name__ = "tensorrt"

    def __init__(self, reported: str | None) -> None:
        self._trt = find_tensorrt(cross=True)
        self._reported = reported

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trt, name)

    def Runtime(self, _logger: object) -> OnDevice:
        return self

    def deserialize_cuda_engine(self, plan: Any) -> OnDevice | None:
        assert memoryview(plan).nbytes > 0
        return None if self._reported is None else self

    def create_engine_inspector(self) -> OnDevice:
        return self

    def get_engine_information(self, _format: object) -> str:
        assert self._reported is not None
        return self._reported


@pytest.mark.filterwarnings("ignore:.*Timing cache operations:DeprecationWarning")
@pytest.mark.parametrize(
    ("reported", "engine", "reason"),
    [
        ('{"Layers": [{"Name": "stem"}]}', {"Layers": [{"Name": "stem"}]}, ""),
        ("no json", None, "returned invalid JSON"),
        (None, None, "doesn't load here"),
    ],
)
def test_on_the_device_the_engine_lists_its_layers_and_timings_stay(
    tmp_path, detector, reported, engine, reason
):
    builder = tensorrt(timings=str(tmp_path / "timings"), conditions="540.4.0 36.4.3 15W")
    builder.runnable = True
    builder._trt = OnDevice(reported)  # what a machine with a GPU has
    for _ in range(2):
        built(builder, detector, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "layers.json").read_bytes())
    assert found["engine"] == engine
    assert reason in found["engine_reason"]
    assert bool(found["engine_reason"]) == bool(reason)
    assert [path.suffix for path in (tmp_path / "timings").iterdir()] == [".timings"]


@pytest.mark.filterwarnings("ignore:.*Timing cache operations:DeprecationWarning")
@pytest.mark.parametrize("reported", ['{"Layers": [{"Name": "stem", "LayerType": "kgen"}]}', None])
def test_an_engine_that_has_nothing_on_the_accelerator_is_none_for_it(tmp_path, detector, reported):
    """TensorRT falls back to the GPU layer by layer, which may be all of them."""
    builder = tensorrt(dla_core=0)
    builder.runnable = True
    builder._trt = OnDevice(reported)
    with pytest.raises(BuildError, match=r"no layer on accelerator 0") as caught:
        built(builder, detector, tmp_path / "out")
    assert caught.value.code == "no_dla"
    assert list((tmp_path / "out").iterdir()) == []
    builder._trt = OnDevice('{"Layers": [{"Name": "{ForeignNode[a...b]}", "LayerType": "DLA"}]}')
    built(builder, detector, tmp_path / "out")


GARBAGE = """
import gc
from agent.adapters.engines.builder_tensorrt import BuilderSettings, TensorrtBuilder
from agent.core.errors import BuildError
from agent.engines.tensorrt import find_tensorrt, make_logger

def leave():
    cycle = [trt.Builder(logger)]
    cycle.append(cycle)

trt = find_tensorrt(cross=True)
logger = make_logger(trt)
first = trt.Builder(logger)  # of another logger than its own: the next one logs that
builder = TensorrtBuilder(BuilderSettings(compute_capability="8.6"))
for allocations in range(1, 60):  # at one of them, it used to be on the way into the logger
    gc.disable()
    gc.collect()
    leave()
    gc.set_threshold(allocations)
    gc.enable()
    try:
        builder.build("missing.onnx", 1, ".", lambda *_: None)
    except BuildError:
        assert gc.isenabled()
"""


def test_no_garbage_is_collected_under_tensorrts_lock():
    """An earlier builder in it would be freed by the thread that holds the lock, for ever."""
    require_tensorrt()
    done = subprocess.run([sys.executable, "-c", GARBAGE], timeout=60, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode()[-2000:]


@without_garbage_collection()
def test_fp32_is_fp32():
    """TF32 is on by default where the GPU has it, and FP32 is what fidelity is measured against."""
    builder = tensorrt()
    trt = find_tensorrt(cross=True)
    maker = trt.Builder(make_logger(trt))
    assert maker.create_builder_config().get_flag(trt.BuilderFlag.TF32)
    assert not builder._config(maker).get_flag(trt.BuilderFlag.TF32)


def test_tensorrt_rtx_leaves_no_timings(tmp_path, detector):
    built(tensorrt(timings=str(tmp_path / "timings")), detector, tmp_path / "out")
    assert not (tmp_path / "timings").exists()


def test_the_real_runtime_gives_the_reason_why_an_engine_does_not_load(tmp_path, detector):
    require_tensorrt()
    trt = find_tensorrt(cross=True)
    plan = built(tensorrt(), detector, tmp_path / "out")
    for body in (plan.read_bytes()[:100], b"no engine"):
        engine, reason = engine_layers(trt, body, make_logger(trt))
        assert engine is None
        assert reason.startswith("the engine doesn't load here: ")
