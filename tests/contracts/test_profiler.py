"""The EngineProfiler port: one suite for both runtimes; TensorRT's is driven on a stand-in."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from agent.adapters.engines.profiler_onnxruntime import OnnxruntimeProfiler
from agent.adapters.engines.profiler_tensorrt import TensorrtProfiler
from agent.core.errors import BuildError, RunnerError
from agent.core.measurement.layer_times import EngineProfile, layer_times
from agent.graphs.qdq import load_inferred, quantized_tensors, save, with_qdq
from tests.fakes import gpu
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs


def profiled(model: str, folder: Path) -> EngineProfile:
    inputs = [random_inputs(onnx.load(model), seed) for seed in range(2)]
    return OnnxruntimeProfiler(1, str(folder)).profile(model, inputs)


def quantized(model: str, folder: Path, scheme: str) -> str:
    graph = load_inferred(model)
    target = str(folder / f"{scheme}.onnx")
    save(with_qdq(graph, scheme, dict.fromkeys(quantized_tensors(graph, scheme), (-4.0, 4.0))), target)  # fmt: skip
    return target


@pytest.mark.parametrize("scheme", ["U8S8", "S8S8"])
def test_the_layers_of_int8_and_fp32_are_compared_by_name_and_add_up(tmp_path, scheme):
    model = quant_graphs.interrupted(tmp_path / "m.onnx")
    found = layer_times(
        profiled(quantized(model, tmp_path, scheme), tmp_path), profiled(model, tmp_path), "fp32"
    )
    change = found.against_baseline
    assert change is not None
    assert {(one.layer, one.operator) for one in change.layers} == {
        ("first", "Conv + Relu"), ("soft", "Softmax"), ("grow", "Resize"), ("second", "Conv"),
    }  # fmt: skip
    spent = sum(one.time_us + one.conversions_us for one in found.layers)
    assert spent + found.between_us == pytest.approx(found.inference_us, abs=1)
    parts = change.slower_us + change.faster_us + change.conversions_us + change.between_us
    assert parts == pytest.approx(change.difference_us, abs=1)
    assert sum(one.conversions_us for one in found.layers) == pytest.approx(found.conversions_us)
    by_name = {one.layer: one for one in change.layers}
    assert by_name["grow"].conversions_us + by_name["second"].conversions_us > 0
    assert (found.source, found.runs, found.count) == ("ONNX Runtime's profiler", 40, 4)
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", f"{scheme}.onnx"}


def test_a_model_with_branches_is_profiled_by_its_outer_nodes(tmp_path):
    """The nodes in the bodies of an If are part of its time."""
    model = str(Path(__file__).parents[1] / "fixtures" / "models" / "if_body.onnx")
    found = profiled(model, tmp_path)
    names = {node.operator for node in found.nodes}
    assert "If" in names
    assert sum(one.time_us for one in found.kernels) <= found.inference_us


def test_on_a_gpu_its_profile_has_no_times_of_layers(tmp_path, monkeypatch):
    model = quant_graphs.classifier(tmp_path / "m.onnx")
    monkeypatch.setattr(
        onnxruntime, "get_available_providers",
        lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
    )  # fmt: skip
    monkeypatch.setattr("agent.engines.providers._cuda_loads", lambda: True)
    with pytest.raises(RunnerError, match="times of the layers on CUDAExecutionProvider") as raised:
        profiled(model, tmp_path)
    assert raised.value.code == "no_profile"


def test_an_engine_that_does_not_load_is_an_error(tmp_path):
    model = quant_graphs.classifier(tmp_path / "m.onnx")
    inputs = [{"x": np.zeros((1, 3, 4, 4), np.float32)}]  # of another size
    with pytest.raises(RunnerError):
        OnnxruntimeProfiler(1, str(tmp_path)).profile(model, inputs)
    with pytest.raises(RunnerError, match="can't be written"):
        OnnxruntimeProfiler(1, str(tmp_path / "absent")).profile(model, inputs)
    with pytest.raises(BuildError, match="Nowhere"):
        OnnxruntimeProfiler(1, str(tmp_path), ["NowhereProvider"]).profile(model, inputs)


LAYERS = [
    {"Name": "first + first_relu", "LayerType": "CaskConvolution",
     "Metadata": "[ONNX Layer: first]\x1f[ONNX Layer: first_relu]"},
    {"Name": "__myl_Soft_0", "LayerType": "kgen", "Metadata": "[ONNX Layer: soft]\x1e[ONNX Layer: x]"},
    {"Name": "second", "LayerType": "CaskConvolution", "Metadata": 5}, "odd", {"Name": 7},
]  # fmt: skip
TIMES_MS = {
    "Reformatting CopyNode for Input Tensor 0 to first + first_relu": 0.02,
    "first + first_relu": 0.5, "__myl_Soft_0": 0.1, "second": 0.2, "unheard of": 0.03,
}  # fmt: skip


def by_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: object) -> EngineProfile:
    model = quant_graphs.interrupted(tmp_path / "m.onnx", side=8)
    (tmp_path / "layers.json").write_text(json.dumps(listed))
    standin = gpu.install(monkeypatch)
    standin.layers_ms = TIMES_MS
    found = TensorrtProfiler(model).profile(model, [random_inputs(onnx.load(model))])
    assert not sys.modules["pycuda.driver"].gpu.stack, "its context is left again"
    return found


def test_layers_of_tensorrt_are_named_by_its_inspector(tmp_path, monkeypatch):
    found = by_tensorrt(tmp_path, monkeypatch, {"engine": {"Layers": LAYERS}})
    assert [(one.operator, one.tensor, one.conversion, round(one.time_us)) for one in found.kernels] == [
        ("", "r0", True, 20), ("CaskConvolution", "r0", False, 500), ("kgen", "s", False, 100),
        ("CaskConvolution", "y", False, 200), ("", "", False, 30),
    ]  # fmt: skip
    assert (found.source, found.runs) == ("TensorRT's profiler", 40)
    assert found.inference_us == pytest.approx(1250), "as CUDA's events have it"


@pytest.mark.parametrize("listed", [None, [], {"engine": None}, {"engine": {"Layers": {}}}, "text"])
def test_without_the_inspector_layers_are_known_by_their_own_names(tmp_path, monkeypatch, listed):
    found = by_tensorrt(tmp_path, monkeypatch, listed)
    assert [one.tensor for one in found.kernels] == ["r0", "r0", "", "y", ""]


def test_where_tensorrt_reports_no_layer_there_is_no_profile(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "TIMES_MS", {})
    with pytest.raises(RunnerError, match="reports no layer"):
        by_tensorrt(tmp_path, monkeypatch, {})
