"""The EngineRunner port: one suite for every runtime.

TensorRT's own part needs a GPU (`-m gpu`). Without one the same runner drives a stand-in.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.adapters.engines.runner_onnxruntime import OnnxruntimeRunner
from agent.adapters.graphs.intake import OnnxIntake
from agent.core.errors import BuildError, RunnerError
from agent.core.frames.input_spec import InputSpec
from agent.ports import EngineRunner
from tests.fakes import cuda_graphs, gpu
from tests.support import exported_graphs, quant_graphs
from tests.support.onnx_runs import random_inputs, run

Make = Callable[[str], EngineRunner]


def by_onnxruntime(model: str) -> EngineRunner:
    return OnnxruntimeRunner(model, 1)


def by_tensorrt(model: str) -> EngineRunner:
    from agent.adapters.engines.builder_tensorrt import FILE, BuilderSettings, TensorrtBuilder
    from agent.adapters.engines.runner_tensorrt import TensorrtRunner

    folder = Path(model).with_suffix("")
    folder.mkdir(exist_ok=True)
    TensorrtBuilder(BuilderSettings()).build(model, 1, str(folder), lambda *_: None)
    return TensorrtRunner(str(folder / FILE))


def by_standin(model: str) -> EngineRunner:
    """Return the runner of TensorRT over an engine that is the ONNX file itself."""
    from agent.adapters.engines.runner_tensorrt import TensorrtRunner

    return TensorrtRunner(model)


def by_standin_graph(model: str) -> EngineRunner:
    """Return the same by a clock on which CUDA graphs are faster."""
    from agent.adapters.engines.runner_tensorrt import TensorrtRunner

    standin = sys.modules["pycuda.driver"].gpu
    return TensorrtRunner(model, graphs=True, now_ns=lambda: standin.now_ns)


@pytest.fixture(
    params=[
        by_onnxruntime, by_standin, by_standin_graph,
        pytest.param(by_tensorrt, marks=pytest.mark.gpu),
    ]
)  # fmt: skip
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
    chosen: Make = request.param
    if chosen in {by_standin, by_standin_graph}:
        standin = gpu.install(monkeypatch)
    if chosen is by_standin_graph:
        cuda_graphs.install(monkeypatch, standin)
    return chosen


def many_kinds(path: Path) -> str:
    """Save uint8 NHWC in; float scores, int64 classes and bool flags out."""
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["t"], "layout", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["scores"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("ArgMax", ["scores"], ["classes"], "best", axis=1, keepdims=0),
        helper.make_node("Greater", ["scores", "cut"], ["flags"], "above"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 12, 10, 3])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4, 12, 10]),
            helper.make_tensor_value_info("classes", TensorProto.INT64, [1, 12, 10]),
            helper.make_tensor_value_info("flags", TensorProto.BOOL, [1, 4, 12, 10]),
        ],
        [quant_graphs.weights("w", 4, 3, 3, 3), numpy_helper.from_array(np.float32(50), "cut")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return str(path)


def inferred(path: str, seed: int = 0) -> dict[str, np.ndarray]:
    return random_inputs(onnx.load(path), seed)


@pytest.mark.parametrize("graph", [quant_graphs.detector, quant_graphs.classifier])
def test_outputs_are_the_models(make, tmp_path, graph):
    model = graph(tmp_path / "m.onnx")
    with make(model) as runner:
        for seed in range(3):
            inputs = inferred(model, seed)
            runner.bind(inputs)
            runner.run()
            for expected, found in zip(run(model, inputs), runner.outputs().values(), strict=True):
                assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
                np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3)


def test_any_dtype_and_several_outputs(make, tmp_path):
    model = many_kinds(tmp_path / "m.onnx")
    image = np.random.default_rng(0).integers(0, 256, (1, 12, 10, 3), np.uint8)
    with make(model) as runner:
        runner.bind({"image": image})
        runner.run()
        found = runner.outputs()
    expected = dict(zip(("scores", "classes", "flags"), run(model, {"image": image}), strict=True))
    assert found.keys() == expected.keys()
    assert {name: value.dtype for name, value in found.items()} == {
        "scores": np.float32, "classes": np.int64, "flags": np.bool_,
    }  # fmt: skip
    np.testing.assert_allclose(found["scores"], expected["scores"], rtol=1e-2, atol=0.5)
    assert (found["classes"] == expected["classes"]).mean() > 0.98


@pytest.mark.gpu
def test_the_gpus_own_time_is_within_the_whole(tmp_path):
    model = quant_graphs.detector(tmp_path / "m.onnx")
    with by_tensorrt(model) as runner:
        runner.bind(inferred(model))
        runner.run()
        begin = time.monotonic()
        runner.run()
        whole_ms = (time.monotonic() - begin) * 1e3
        found = runner.device_ms()
    assert found is not None
    assert 0 < found < whole_ms


def test_outputs_whose_size_depends_on_the_picture_are_reported_or_refused(make, tmp_path):
    """ONNX Runtime gives what there is, again and again; TensorRT's part says what to export."""
    raw = exported_graphs.suppressed(tmp_path / "raw.onnx")
    OnnxIntake().clean(raw, "m", InputSpec(width=32, height=32), str(tmp_path))
    model = str(tmp_path / "model.onnx")
    if make is not by_onnxruntime:
        with pytest.raises((BuildError, RunnerError), match="depends on the picture") as raised:
            make(model).__enter__()
        assert "export" in raised.value.hint
        return
    found = []
    with make(model) as runner:
        for scale in (0.0, 0.5, 0.0, 9.0):
            inputs = {name: scale * value for name, value in inferred(model).items()}
            runner.bind(inputs)
            for _ in range(2):
                runner.run()
                (rows,) = runner.outputs().values()
                np.testing.assert_array_equal(rows, run(model, inputs)[0])
            found.append(rows)
    assert len(found[0]) == len(found[2]) == 0 < len(found[1]) < len(found[3])


def test_buffers_are_the_callers_own(make, tmp_path):
    """What a caller holds does not change under it, neither inputs nor outputs."""
    model = quant_graphs.classifier(tmp_path / "m.onnx")
    inputs = inferred(model)
    with make(model) as runner:
        runner.bind(inputs)
        inputs["x"][:] = 0  # after binding: the run must not see it
        runner.run()
        first = runner.outputs()
        kept = {name: value.copy() for name, value in first.items()}
        runner.bind(inferred(model, 1))
        runner.run()
        second = runner.outputs()
    np.testing.assert_allclose(first["y"], run(model, inferred(model))[0], rtol=1e-2, atol=1e-3)
    np.testing.assert_array_equal(first["y"], kept["y"])
    assert not np.array_equal(first["y"], second["y"])


def test_the_same_input_gives_the_same_output(make, tmp_path):
    model = quant_graphs.detector(tmp_path / "m.onnx")
    with make(model) as runner:
        runner.bind(inferred(model))
        runs = []
        for _ in range(3):
            runner.run()
            runs.append(runner.outputs()["y"])
    assert all(np.array_equal(runs[0], one) for one in runs)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"z": np.zeros((1, 3, 16, 16), np.float32)},
        {"x": np.zeros((1, 3, 16, 17), np.float32)},
        {"x": np.zeros((3, 16, 16), np.float32)},
        {"x": np.zeros((1, 3, 16, 16), np.float64)},
    ],
    ids=["none", "another name", "another size", "another rank", "another dtype"],
)
def test_wrong_inputs_are_refused_and_nothing_is_lost(make, tmp_path, wrong):
    model = quant_graphs.classifier(tmp_path / "m.onnx")
    with make(model) as runner:
        with pytest.raises(RunnerError) as caught:
            runner.bind(wrong)
        assert caught.value.code == "wrong_input"
        runner.bind(inferred(model))
        runner.run()
        assert runner.outputs()["y"].shape == (1, 10)


@pytest.mark.parametrize("body", [b"", b"not an engine", None], ids=["empty", "text", "absent"])
def test_what_is_no_engine_is_an_error(make, tmp_path, body):
    runner = make(quant_graphs.classifier(tmp_path / "m.onnx"))
    for path in tmp_path.iterdir():
        path.unlink()
        if body is not None:
            path.write_bytes(body)
    with pytest.raises(RunnerError):
        runner.__enter__()


def test_launches_are_reported_if_the_runtime_leaves_them_open(make, tmp_path):
    model = quant_graphs.classifier(tmp_path / "m.onnx")
    with make(model) as runner:
        runner.bind(inferred(model))
        assert runner.launches() is None
        runner.run()
        found = runner.launches()
    if make is by_onnxruntime:
        assert found is None
        return
    assert found.reason
    if make is not by_tensorrt:
        assert found.by == ("CUDA graph" if make is by_standin_graph else "plain launches")


def test_the_devices_memory_is_a_number_or_unknown(make, tmp_path):
    model = quant_graphs.detector(tmp_path / "m.onnx")
    with make(model) as runner:
        runner.bind(inferred(model))
        runner.run()
        found = runner.device_bytes()
    assert found is None or found >= 0
    if make is by_onnxruntime:  # on the CPU here, whose memory is the process's
        assert found == 0
    else:
        assert found


def test_two_may_be_entered_at_once_and_take_turns(make, tmp_path):
    """An engine and its baseline are compared so, and candidates measured."""
    models = [graph(tmp_path / f"{graph.__name__}.onnx")
              for graph in (quant_graphs.detector, quant_graphs.classifier)]  # fmt: skip
    with make(models[0]) as one, make(models[1]) as other:
        for seed in range(2):
            for runner, model in ((one, models[0]), (other, models[1])):
                runner.bind(inferred(model, seed))
                runner.run()
                (expected,) = run(model, inferred(model, seed))
                np.testing.assert_allclose(runner.outputs()["y"], expected, rtol=1e-2, atol=1e-3)


def test_it_can_be_entered_again(make, tmp_path):
    model = quant_graphs.classifier(tmp_path / "m.onnx")
    runner = make(model)
    found = []
    for _ in range(2):
        with runner:
            runner.bind(inferred(model))
            runner.run()
            found.append(runner.outputs()["y"])
    np.testing.assert_array_equal(*found)
