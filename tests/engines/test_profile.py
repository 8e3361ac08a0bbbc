"""What ONNX Runtime executed, counted from profiles: real ones and made ones."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from agent.core.errors import BuildError
from agent.engines.profile import count, executed
from agent.engines.providers import CPU, make_session, named, on_gpu, usable
from tests.support import quant_graphs

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


@pytest.mark.skipif(OTHER is None, reason="this ONNX Runtime has one provider only")
def test_of_two_providers_the_one_that_ran_a_node_is_told(tmp_path):
    model = quant_graphs.detector(tmp_path / "model.onnx")
    providers = named([str(OTHER)])
    assert providers == [OTHER, CPU]
    assert usable([str(OTHER)]) == (OTHER, CPU)
    session = make_session(model, 1, providers, profile=str(tmp_path / "p"))
    session.run(None, {"x": np.zeros(session.get_inputs()[0].shape, np.float32)})
    found = executed(tmp_path / session.end_profiling())
    assert sum(found.providers.values()) == found.fp32 + found.conversions + found.others
    assert found.providers.keys() <= {OTHER, CPU}
    assert CPU in found.providers


def test_without_a_wish_the_cpu_is_enough():
    assert named(()) == list(usable(()))
    assert named(())[-1] == CPU
    assert not on_gpu([CPU])
    assert on_gpu(["CUDAExecutionProvider", CPU])


def test_a_provider_that_is_built_in_and_does_not_load_is_told(monkeypatch):
    monkeypatch.setattr(
        "agent.engines.providers.named", lambda wanted: [*wanted, CPU]
    )  # as if it were built in: ONNX Runtime then leaves it out with a warning
    with pytest.warns(UserWarning, match="NoSuch"), pytest.raises(BuildError) as told:
        usable(["NoSuchExecutionProvider"])
    assert told.value.code == "no_provider"
