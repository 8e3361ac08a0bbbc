"""Conditioning on real graphs: kept where INT8 gains, undone where it doesn't, told either way."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.adapters.conditioner_onnx import OnnxConditioner
from agent.adapters.quantizer_onnx import OnnxQuantizer
from agent.adapters.rehearsal_onnx import OnnxRehearsal
from agent.core.fidelity import Comparison
from agent.core.lineage import ConditionedModel, Digest
from agent.graphs.qdq import inferred
from agent.stages.condition import condition
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs, run


def conditioned(path: str, work: Path, scheme: str = "S8S8") -> ConditionedModel:
    work.mkdir()
    frames = [random_inputs(inferred(path), seed) for seed in range(4)]
    return condition(
        ConditionedModel(
            digest=Digest("d"), model=Digest("m"), calibration=Digest("c"), scheme=scheme
        ),
        path,
        frames,
        work=str(work),
        quantizer=OnnxQuantizer(1),
        conditioner=OnnxConditioner(1),
        rehearse=lambda model, ranged: OnnxRehearsal(model, scheme, ranged, frames, 1),
        comparison=lambda: Comparison("generic"),
        progress=lambda *_: None,
    )


@pytest.mark.parametrize("scheme", ["S8S8", "U8S8"])
def test_uneven_channels_are_evened(tmp_path, scheme):
    path = quant_graphs.inverted(tmp_path / "m.onnx")
    found = conditioned(path, tmp_path / "work", scheme)
    assert found.steps == ("equalization",)
    assert "at 2 places" in found.tried[0]
    made = str(tmp_path / "work" / "model.onnx")
    assert Path(made).read_bytes() != Path(path).read_bytes()
    inputs = random_inputs(inferred(path), 9)
    assert (run(path, inputs, plain=True)[0] == run(made, inputs, plain=True)[0]).all()


def test_a_step_that_loses_is_undone_and_told(tmp_path, monkeypatch):
    path = quant_graphs.inverted(tmp_path / "m.onnx", spread=2)
    worse = quant_graphs.inverted(tmp_path / "worse.onnx", spread=14)

    def equalize(_self, _model, _frames, target):
        Path(target).write_bytes(Path(worse).read_bytes())
        return 2

    monkeypatch.setattr(OnnxConditioner, "equalize", equalize)
    found = conditioned(path, tmp_path / "work")
    assert found.steps == ()
    assert found.tried[0].endswith("not kept")
    assert (tmp_path / "work" / "model.onnx").read_bytes() == Path(path).read_bytes()


def test_a_model_without_a_place_is_taken_as_it_is(tmp_path):
    path = quant_graphs.elementwise(tmp_path / "m.onnx")
    found = conditioned(path, tmp_path / "work")
    assert found.tried == ("equalization: no place where it would be exact",)
    assert (tmp_path / "work" / "model.onnx").read_bytes() == Path(path).read_bytes()
