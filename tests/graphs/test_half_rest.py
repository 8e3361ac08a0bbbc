"""INT8 graphs with float16 between the integers: the same codes, and no scale that vanishes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.errors import QuantizeError
from agent.core.quantization.calibrators import range_of
from agent.graphs.compute import int8_share
from agent.graphs.half import nodes_overflowing
from agent.graphs.half_rest import rest_to_float16, to_float16_scales
from agent.graphs.qdq import load_inferred, save, with_qdq
from tests.graphs.test_half import loud
from tests.support import quant_graphs
from tests.support.onnx_runs import half_loss_db, random_inputs, run, sqnr_db


def placed(model, path, inputs, left_out=()):
    save(model, path)
    found = OnnxQuantizer(1, "S8S8").collect(path, [inputs], 1, lambda *_: None)
    ranges = {h.name: range_of(h, "minmax", symmetric=True) for h in found}
    return with_qdq(model, "S8S8", ranges, left_out)


def resized(path, by):
    """Make the values between expansion and projection larger by a factor, and nothing else."""
    model = onnx.load(quant_graphs.inverted(path, spread=0))
    constants = {t.name: t for t in model.graph.initializer}
    for name, factor in (("w1", by), ("b1", by), ("b2", by), ("w3", 1 / by)):
        values = numpy_helper.to_array(constants[name]) * np.float32(factor)
        constants[name].CopyFrom(numpy_helper.from_array(values, name))
    return onnx.shape_inference.infer_shapes(model)


@given(st.lists(st.floats(1e-12, 1e6), min_size=1, max_size=20))
def test_scales_fit_float16_and_small_ones_never_shrink(values):
    scale = np.array(values, np.float32)
    fitted = to_float16_scales(scale)
    assert fitted.dtype == np.float32
    inside = scale <= 65504
    assert (fitted[inside].astype(np.float16) == fitted[inside]).all()
    assert (fitted[~inside] == scale[~inside]).all()
    assert (fitted > 0).all()
    normal = inside & (scale >= 2**-14)
    assert (np.abs(fitted[normal] / scale[normal] - 1) <= 2**-11).all()
    assert (fitted[scale < 2**-14] >= scale[scale < 2**-14]).all()


@pytest.mark.parametrize("left_out", [(), ("expand",), ("depthwise", "depthwise_relu")])
def test_the_rest_is_float16_and_the_integers_stay(tmp_path, left_out):
    model = load_inferred(quant_graphs.inverted(tmp_path / "m.onnx", spread=2))
    inputs = random_inputs(model)
    wide = placed(model, str(tmp_path / "m.onnx"), inputs, left_out)
    half = rest_to_float16(wide, ())
    target = str(tmp_path / "half.onnx")
    save(half, target)
    onnx.checker.check_model(target, full_check=True)
    assert int8_share(half, model) == int8_share(wide, model)
    types = {v.name: v.type.tensor_type.elem_type for v in load_inferred(target).graph.value_info}
    assert {types[n.output[0]] for n in half.graph.node if n.op_type == "Relu"} == {
        TensorProto.FLOAT16
    }
    (reference,) = run(model, inputs)
    before, after = (
        sqnr_db(reference, run(graph, inputs, plain=True)[0]) for graph in (wide, half)
    )
    assert after > before - 1 - half_loss_db()


def test_small_channels_keep_their_weights(tmp_path):
    """A channel of weights near 1e-5 has a scale of 1e-7: as float16 it would be off by a third."""
    model = resized(tmp_path / "m.onnx", 1e-5)
    inputs = random_inputs(model)
    wide = placed(model, str(tmp_path / "m.onnx"), inputs)
    (reference,) = run(model, inputs)
    before, after = (
        sqnr_db(reference, run(graph, inputs, plain=True)[0])
        for graph in (wide, rest_to_float16(wide, ()))
    )
    assert after > before - 4 - half_loss_db()


@pytest.mark.parametrize("factor", [1.0, 1e6])
def test_what_overflows_stays_float32_and_its_layer_in_int8(tmp_path, factor):
    model = loud(tmp_path / "m.onnx", factor)
    inputs = random_inputs(model)
    wide = placed(model, str(tmp_path / "m.onnx"), inputs)
    half = rest_to_float16(wide, nodes_overflowing(model, [inputs], 1))
    assert int8_share(half, model) == int8_share(wide, model)
    (reference,) = run(model, inputs)
    before, after = (
        sqnr_db(reference, run(graph, inputs, plain=True)[0]) for graph in (wide, half)
    )
    assert after > before - 1 - half_loss_db()


def test_a_large_activation_is_quantized_before_it_is_cut_off(tmp_path):
    model = resized(tmp_path / "m.onnx", 1e6)
    inputs = random_inputs(model)
    wide = placed(model, str(tmp_path / "m.onnx"), inputs)
    half = rest_to_float16(wide, nodes_overflowing(model, [inputs], 1))
    (reference,) = run(model, inputs)
    before, after = (
        sqnr_db(reference, run(graph, inputs, plain=True)[0]) for graph in (wide, half)
    )
    assert after > before - 1 - half_loss_db()
    assert int8_share(half, model)[0] == 1


def test_a_graph_that_no_newer_opset_takes_is_reported(tmp_path):
    model = load_inferred(quant_graphs.inverted(tmp_path / "m.onnx"))
    wide = placed(model, str(tmp_path / "m.onnx"), random_inputs(model))
    wide.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(QuantizeError) as caught:
        rest_to_float16(wide, ())
    assert caught.value.code == "opset"
