"""INT8 graphs whose float parts are float16, with scales representable in float16.

TensorRT computes float layers in the type of the values beside the Q/DQ; in float32 they would run
at half the speed or less. A Q/DQ pair on float16 values has float16 scales. Small scales lose bits
there, so that all weights of a channel would shrink or vanish; such a scale is first rounded up,
and the codes are recomputed for it.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, version_converter

from agent.core.errors import QuantizeError
from agent.engines.errors import one_line
from agent.graphs.compute import WEIGHTED
from agent.graphs.half import with_float16

_OPSET = 19  # the first with Q/DQ on float16
_LINEAR = ("QuantizeLinear", "DequantizeLinear")
_NORMAL = float(np.finfo(np.float16).tiny)  # below, float16 has fewer bits
_LARGEST = float(np.finfo(np.float16).max)
_CODES = 127


def rest_to_float16(placed: onnx.ModelProto, wide: Collection[str]) -> onnx.ModelProto:
    """Return a copy of a graph with symmetric Q/DQ, its float parts in float16.

    Args:
        placed: From `qdq.with_qdq`.
        wide: Nodes that must stay in float32, from `half.nodes_overflowing`.

    Raises:
        QuantizeError: "opset" if the graph can't be converted to opset 19.
    """
    whole = _at_opset(placed)
    kept = _with_adjacent_qdq(whole.graph, wide)
    _fit_scales(whole.graph, kept)
    return with_float16(whole, kept)


def _at_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    if next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")) < _OPSET:
        try:
            model = version_converter.convert_version(model, _OPSET)
        except (RuntimeError, ValueError, version_converter.ConvertError) as e:
            raise QuantizeError(f"opset {_OPSET}: {one_line(e)}", code="opset") from e
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def _fit_scales(graph: onnx.GraphProto, kept: Collection[str]) -> None:
    """Round scales to float16 values, and recompute the codes of weights to match.

    Args:
        graph: Changed in place.
        kept: Nodes that stay in float32 and keep their scales.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    done = {n.input[1] for n in graph.node if n.op_type in _LINEAR and n.name in kept}
    for node in graph.node:
        if node.op_type not in _LINEAR or node.input[1] in done or node.input[1] not in constants:
            continue
        done.add(node.input[1])
        scale = numpy_helper.to_array(constants[node.input[1]])
        fitted = to_float16_scales(scale)
        constants[node.input[1]].CopyFrom(numpy_helper.from_array(fitted, node.input[1]))
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            codes = numpy_helper.to_array(constants[node.input[0]])
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            shape = [-1 if i == axis % codes.ndim else 1 for i in range(codes.ndim)]
            by = (scale / fitted).reshape(shape if scale.ndim else ())
            again = np.clip(np.rint(codes * by), -_CODES, _CODES).astype(codes.dtype)
            constants[node.input[0]].CopyFrom(numpy_helper.from_array(again, node.input[0]))


def to_float16_scales(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the float16 value of each positive scale: the nearest, of small ones the next larger.

    Scales beyond the float16 range are returned unchanged.
    """
    nearest = np.minimum(scale, _LARGEST).astype(np.float16)
    small = np.minimum(nearest, np.float16(_NORMAL))
    larger = np.where(small < scale, np.nextafter(small, np.float16(1)), small)
    fitted = np.where(scale < _NORMAL, larger, nearest)
    return np.where(scale > _LARGEST, scale, fitted).astype(np.float32)


def _with_adjacent_qdq(graph: onnx.GraphProto, wide: Collection[str]) -> frozenset[str]:
    """Return the nodes to leave in float32: with the Q/DQ beside them and the readers of those.

    A cast between DequantizeLinear and its layer would prevent INT8 there, and one between a large
    value and its QuantizeLinear would clip the value.
    """

    def ends(names: Collection[str], side: str) -> set[str]:
        return {end for n in graph.node if n.name in names for end in getattr(n, side)}

    def nodes(operators: Collection[str], side: str, tensors: set[str]) -> set[str]:
        return {
            n.name
            for n in graph.node
            if n.op_type in operators and not tensors.isdisjoint(getattr(n, side))
        }

    quantizers = nodes(["QuantizeLinear"], "input", ends(wide, "output"))
    dequantizers = nodes(["DequantizeLinear"], "input", ends(quantizers, "output"))
    dequantizers |= nodes(["DequantizeLinear"], "output", ends(wide, "input"))
    layers = nodes(WEIGHTED, "input", ends(dequantizers, "output"))
    dequantizers |= nodes(["DequantizeLinear"], "output", ends(layers, "input"))
    return frozenset({*wide, *quantizers, *dequantizers, *layers})
