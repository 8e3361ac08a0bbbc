"""What ONNX Runtime executed, counted from profiles: real ones and made ones."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from agent.core.errors import BuildError
from agent.engines import providers
from agent.engines.kernels import RunTimes, feeds, quartile_times
from agent.engines.profile import count, layers_json, read_events, run_times
from agent.engines.providers import (
    CPU,
    CUDA,
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


def timed(
    name: str, begin_us: object, length_us: object, operator: str = "Conv"
) -> dict[str, object]:
    """Return the event of a node, or of a whole inference by its name."""
    if name == "model_run":
        return {"cat": "Session", "name": name, "ts": begin_us, "dur": length_us, "args": {}}
    args = {"op_name": operator, "provider": CPU}
    name = f"{name}_kernel_time"
    return {"cat": "Node", "name": name, "ts": begin_us, "dur": length_us, "args": args}


def test_each_inference_has_the_times_of_its_nodes():
    found = list(run_times([
        timed("warm", 0, 90),  # its inference follows
        timed("model_run", 0, 100), timed("a", 110, 20), timed("b", 130, 5, "Exp"),
        {"cat": "Node", "name": "a_fence_before", "ts": 111, "dur": 3}, timed("model_run", 105, 40),
        timed("a", 200, 1),  # the profile ends within an inference
    ]))  # fmt: skip
    assert found == [
        RunTimes(100.0, {("Conv", "warm"): 90.0}),
        RunTimes(40.0, {("Conv", "a"): 20.0, ("Exp", "b"): 5.0}),
    ]


def test_what_runs_inside_a_loop_is_part_of_the_loop():
    """ONNX Runtime reports a body's nodes before the node that they run in."""
    (found,) = run_times([
        timed("a", 0, 10), timed("body", 12, 3), timed("body", 15, 4), timed("loop", 10, 20, "Loop"),
        timed("c", 30, 0), timed("d", 30, 6), timed("model_run", 0, 40),
    ])  # fmt: skip
    assert found.kernels_us == {("Conv", "a"): 10.0, ("Loop", "loop"): 20.0, ("Conv", "d"): 6.0}


def test_the_lower_quartile_of_each_node_ignores_disturbed_inferences():
    slow, quick = ("Conv", "slow"), ("Exp", "quick")
    runs = [
        RunTimes(1000.0, {slow: 900.0, quick: 5.0}), RunTimes(30.0, {slow: 20.0, quick: 4.0}),
        RunTimes(532.0, {slow: 21.0, quick: 505.0}), RunTimes(530.0, {slow: 500.0, quick: 7.0}),
        RunTimes(535.0, {slow: 22.0, quick: 506.0}), RunTimes(0.0, {}),
    ]  # fmt: skip
    found, count_of_runs = quartile_times(iter(runs))
    assert count_of_runs == 5
    assert found.kernels_us == {slow: 21.0, quick: 5.0}
    assert found.inference_us == 21.0 + 5.0 + 6.0
    assert quartile_times([]) == (RunTimes(), 0)
    assert quartile_times([RunTimes(9.0, {slow: 8.0})]) == (RunTimes(9.0, {slow: 8.0}), 1)


def test_a_profile_takes_a_bounded_number_of_inferences():
    assert len(list(feeds(["a", "b"], 100))) == 40
    assert list(feeds(["a", "b"], 100_000)) == ["a", "b", "a", "b", "a", "b"]
    assert len(list(feeds(["a"], 0))) == 40


def test_lines_that_are_no_event_are_left_out(tmp_path):
    good = json.dumps(timed("a", 0, 5)).encode()
    whole = json.dumps(timed("model_run", 0, 9)).encode()
    file = tmp_path / "profile.json"
    lines = (
        b"[", good + b",", b'{"cat": "Node", "na', b"\xff\xfe,", b"[" * 100_000, b"17,", b'"text"',
        b"null", b"", b'{"ts": 1e999, "dur": NaN},', whole, b"]",
    )  # fmt: skip
    file.write_bytes(b"\n".join(lines))
    assert list(run_times(read_events(file))) == [RunTimes(9.0, {("Conv", "a"): 5.0})]


@pytest.mark.parametrize("odd", [None, "5", -3, 2.5, [], {}, float("nan")])
def test_an_event_with_an_odd_time_is_left_out(odd):
    events = [timed("a", 0, odd), timed("b", 5, 7), timed("c", "x", 7), timed("model_run", 0, 20)]
    assert [one.kernels_us for one in run_times(events)] == [{("Conv", "b"): 7.0}]
    assert list(run_times([timed("model_run", 0, odd)])) == []


@pytest.mark.parametrize("args", [None, [], "text", {"op_name": 5}, {"input_type_shape": [17]},
                                  {"input_type_shape": {"a": 1}}, {"input_type_shape": [{}]}])  # fmt: skip
def test_an_event_without_the_known_facts_is_one_of_the_others(args):
    event = {"cat": "Node", "name": "x_kernel_time", "args": args}
    assert count([event]).others == 1
    assert json.loads(layers_json([event]))["nodes"][0]["name"] == "x"


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
    resolved = resolve_providers([str(OTHER)])
    assert resolved == [OTHER, CPU]
    assert load_providers([str(OTHER)]) == (OTHER, CPU)
    session = make_session(model, 1, resolved, profile=str(tmp_path / "p"))
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


def test_cuda_that_does_not_load_is_tried_once_and_no_session_asks_for_it(monkeypatch):
    """onnxruntime-gpu on a machine without its CUDA printed 22 red lines in a run."""
    tried = []

    def session(model, threads, wanted):
        tried.append(list(wanted))
        return SimpleNamespace(get_providers=lambda: [CPU])

    monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(providers, "make_session", session)
    providers._cuda_loads.cache_clear()
    try:
        assert [resolve_providers(()), resolve_providers(())] == [[CPU], [CPU]]
        assert tried == [[CUDA, CPU]]
        assert load_providers(()) == (CPU,)
        assert tried == [[CUDA, CPU], [CPU]]
    finally:
        providers._cuda_loads.cache_clear()


def test_a_provider_that_is_built_in_and_does_not_load_is_reported(monkeypatch):
    monkeypatch.setattr(
        "agent.engines.providers.resolve_providers", lambda wanted: [*wanted, CPU]
    )  # as if it were built in: ONNX Runtime then leaves it out with a warning
    with pytest.warns(UserWarning, match="NoSuch"), pytest.raises(BuildError) as raised:
        load_providers(["NoSuchExecutionProvider"])
    assert raised.value.code == "no_provider"
