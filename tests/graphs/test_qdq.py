"""Where Q/DQ goes, and that what is left in float is left in float by the runtime too."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from agent.adapters.quantizer_onnx import OnnxQuantizer
from agent.core.thresholds import range_of
from agent.graphs.qdq import inferred, save, with_qdq
from agent.graphs.regions import holders, left_out
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs, run, sqnr_db


def ranges_of(path, scheme):
    model = inferred(path)
    inputs = [random_inputs(model, seed) for seed in range(4)]
    histograms = OnnxQuantizer(1).collect(path, inputs, 4, lambda *_: None)
    return model, {h.name: range_of(h, "minmax", scheme == "S8S8") for h in histograms}


@pytest.mark.parametrize("scheme", ["U8S8", "S8S8"])
@pytest.mark.parametrize("kept", [{"depthwise"}, {"expand"}, {"project", "head"}])
def test_layers_in_float_are_not_rounded_by_the_runtime(tmp_path, scheme, kept):
    path = quant_graphs.inverted(tmp_path / "m.onnx", spread=2)
    model, ranges = ranges_of(path, scheme)
    held = holders(model.graph, scheme, ranges)
    mixed = with_qdq(model, scheme, ranges, left_out(model.graph, scheme, held, kept))
    inputs = random_inputs(model, seed=9)
    written, optimized = run(mixed, inputs, plain=True)[0], run(mixed, inputs)[0]
    assert sqnr_db(written, optimized) > 40  # one step of an integer here and there
    (reference,) = run(model, inputs)
    assert not np.array_equal(reference, written)


@pytest.mark.parametrize("scheme", ["U8S8", "S8S8"])
def test_every_subset_of_layers_can_be_left_out(tmp_path, scheme):
    path = quant_graphs.detector(tmp_path / "m.onnx")
    model, ranges = ranges_of(path, scheme)
    held = holders(model.graph, scheme, ranges)
    layers = ["stem", "block", "up", "head"]
    inputs = random_inputs(model)
    (reference,) = run(model, inputs)
    for mask in range(2 ** len(layers) - 1):
        kept = {name for bit, name in enumerate(layers) if mask >> bit & 1}
        placed = with_qdq(model, scheme, ranges, left_out(model.graph, scheme, held, kept))
        save(placed, str(tmp_path / "placed.onnx"))
        onnx.checker.check_model(str(tmp_path / "placed.onnx"), full_check=True)
        assert sqnr_db(reference, run(placed, inputs)[0]) > 25
    out = left_out(model.graph, scheme, held, layers)
    assert not [n for n in with_qdq(model, scheme, ranges, out).graph.node if "Linear" in n.op_type]
