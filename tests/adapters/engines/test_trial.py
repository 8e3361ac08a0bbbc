"""A graph timed before it is calibrated, on the real runtime."""

from __future__ import annotations

import onnx
import pytest

from agent.adapters.engines import trial_onnxruntime
from agent.adapters.engines.trial_onnxruntime import time_trial
from agent.core.errors import RunnerError
from tests.support import quant_graphs


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(trial_onnxruntime, "_SECONDS", 0.02)


@pytest.mark.parametrize("scheme", ["U8S8", "S8S8"])
@pytest.mark.parametrize("batch", [1, 3])
def test_both_precisions_take_some_time(tmp_path, scheme, batch):
    model = quant_graphs.detector(tmp_path / "model.onnx")
    found = time_trial(model, batch, scheme, 1, ())
    assert found.batch == batch
    assert 0 < found.fp32_ms < 1000
    assert 0 < found.int8_ms < 1000


def test_what_the_runtime_refuses_is_an_error_of_ours(tmp_path):
    model = onnx.load(quant_graphs.detector(tmp_path / "model.onnx"))
    model.graph.node[0].op_type = "Nonsense"
    model.graph.node[0].domain = "not.registered"
    model.opset_import.append(onnx.helper.make_opsetid("not.registered", 1))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(RunnerError, match="trial of the graph"):
        time_trial(str(tmp_path / "model.onnx"), 1, "U8S8", 1, ())
