"""What ONNX Runtime executed, counted from profiles: real ones and made ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from agent.core.errors import BuildError
from agent.engines.profile import count, layers_json
from agent.engines.providers import (
    CPU,
    TENSORRT,
    load_providers,
    make_session,
    on_gpu,
    resolve_providers,
    tensorrt_options,
)
from tests.support import quant_graphs
from tests.support.recipes import quantized

OTHER = next((name for name in onnxruntime.get_available_providers() if name != CPU), None)


def node(operator: str, kind: str, provider: str = CPU) -> dict[str, object]:
    args = {"op_name": operator, "provider": provider, "input_type_shape": [{kind: [1]}]}
    return {"cat": "Node", "name": f"x_{operator}_kernel_time", "args": args}


def test_each_node_is_counted_once_by_what_it_reads():
    found = count([
        node("QLinearConv", "uint8"), node("QGemm", "int8"), node("MatMul", "float16", "CUDA"),
        node("NhwcFusedConv", "float"), node("QuantizeLinear", "float"), node("Cast", "float"),
        node("ReorderInput", "float"), node("Resize", "uint8"), node("Conv", "double"),
        {"cat": "Session", "name": "model_run"},
        {"cat": "Node", "name": "x_Conv_fence_before", "args": {"op_name": "Conv"}},
    ])  # fmt: skip
    assert (found.int8, found.fp16, found.fp32) == (2, 1, 1)
    assert (found.conversions, found.others) == (3, 2)
    assert found.providers == {CPU: 8, "CUDA": 1}


def test_a_graph_that_became_one_node_is_reported_as_a_whole_graph():
    found = count([node("TRTKernel_graph_main_1234_0_0", "float", TENSORRT), node("Cast", "float")])
    assert (found.int8, found.fp16, found.fp32, found.others) == (0, 0, 0, 0)
    assert found.providers == {TENSORRT: 1, CPU: 1}
    assert "1 of the nodes are whole graphs" in found.told_by
    assert "whole graphs" not in count([node("Cast", "float")]).told_by


def test_every_node_is_listed_with_the_provider_that_ran_it():
    reported = json.loads(layers_json([node("Conv", "float"), {"cat": "Session", "name": "run"}]))
    assert reported == {
        "schema": 1,
        "nodes": [{"name": "x_Conv", "operator": "Conv", "provider": CPU}],
    }


@pytest.mark.parametrize(
    ("recipe", "flags"),
    [
        ("fp32", set()),
        ("fp16", {"trt_fp16_enable"}),
        ("int8", {"trt_int8_enable", "trt_fp16_enable"}),
    ],
)
def test_tensorrts_provider_gets_the_precisions_of_a_graph(tmp_path, recipe, flags):
    """Without its flag it refuses Q/DQ."""
    model = quant_graphs.detector(tmp_path / "model.onnx")
    graph, _, _ = quantized(recipe, model, tmp_path)
    assert tensorrt_options(graph, "") == dict.fromkeys(flags, "True")


def test_graphs_that_differ_in_their_weights_only_have_caches_of_their_own(tmp_path):
    """The provider names its engines by the nodes: another calibration would get them."""
    cache = tmp_path / "cache"
    folders = []
    for index in range(40):
        model = quant_graphs.scaled(tmp_path / f"{index}.onnx", factor=1.0 + index)
        folders.append(tensorrt_options(model, str(cache))["trt_engine_cache_path"])
    assert len(set(folders)) == 40
    assert len(list(cache.iterdir())) == 16
    assert Path(folders[-1]).is_dir()
    again = tensorrt_options(str(tmp_path / "39.onnx"), str(cache))
    assert again["trt_engine_cache_path"] == folders[-1]


@pytest.mark.skipif(OTHER is None, reason="this ONNX Runtime has one provider only")
def test_of_two_providers_the_one_that_ran_a_node_is_reported(tmp_path):
    model = quant_graphs.detector(tmp_path / "model.onnx")
    providers = resolve_providers([str(OTHER)])
    assert providers == [OTHER, CPU]
    assert load_providers([str(OTHER)]) == (OTHER, CPU)
    session = make_session(model, 1, providers, profile=str(tmp_path / "p"))
    session.run(None, {"x": np.zeros(session.get_inputs()[0].shape, np.float32)})
    found = count(json.loads((tmp_path / session.end_profiling()).read_bytes()))
    assert sum(found.providers.values()) == found.fp32 + found.conversions + found.others
    assert found.providers.keys() <= {OTHER, CPU}
    assert CPU in found.providers


def test_without_a_wish_the_cpu_is_enough():
    assert resolve_providers(()) == list(load_providers(()))
    assert resolve_providers(())[-1] == CPU
    assert not on_gpu([CPU])
    assert on_gpu(["CUDAExecutionProvider", CPU])


def test_a_provider_that_is_built_in_and_does_not_load_is_reported(monkeypatch):
    monkeypatch.setattr(
        "agent.engines.providers.resolve_providers", lambda wanted: [*wanted, CPU]
    )  # as if it were built in: ONNX Runtime then leaves it out with a warning
    with pytest.warns(UserWarning, match="NoSuch"), pytest.raises(BuildError) as raised:
        load_providers(["NoSuchExecutionProvider"])
    assert raised.value.code == "no_provider"
