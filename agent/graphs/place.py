"""Writing of Q/DQ into a graph.

Names, order and values are those of ONNX Runtime's QDQQuantizer, which needs half a minute of CPU
for 1,800 nodes because it searches all nodes for the readers of each tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from agent.core.errors import QuantizeError
from agent.graphs.codes import bias_codes, codes_of, fit_to_bias, scales_and_zeros, spans
from agent.graphs.compute import WEIGHTED
from agent.graphs.edits import copy_of
from agent.graphs.marks import Bias, Mark, Marks
from agent.graphs.schemes import Scheme

Range = tuple[float, float]
_BIAS = 2  # input of a layer


@dataclass(slots=True)
class _Scale:
    """A tensor's scale and zero point: their values, and the initializers once written."""

    scale: NDArray[np.float32]
    zero: NDArray[np.int64]
    element: int
    axis: int | None = None
    names: tuple[str, str] = ("", "")


class Placed:
    """A copy of a model with Q/DQ at the marked tensors.

    Attributes:
        model: The copy.
        through: From each quantized tensor to the output of its DequantizeLinear.
        raw: New names of quantized outputs of the model, before Q/DQ.
        integer: Names of the layers with both input and weight quantized.

    Args:
        model: Inferred, every node with a name of its own.
        rules: The scheme.
        marks: From `find_marks`.
        ranges: Low and high of every marked activation with a scale of its own.

    Raises:
        QuantizeError: "not_placed" if a range is missing or not finite.
    """

    def __init__(
        self, model: onnx.ModelProto, rules: Scheme, marks: Marks, ranges: Mapping[str, Range]
    ) -> None:
        self.model = copy_of(model)
        self.through: dict[str, str] = {}
        self.raw: dict[str, str] = {}
        self._graph = self.model.graph
        self._rules, self._marks = rules, marks
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._ends = {value.name for value in model.graph.output}
        self._taken = {*self._constants, *(n for node in model.graph.node for n in node.output)}
        self._initializers: list[onnx.TensorProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._scales = self._activation_scales(ranges) | self._constant_scales()
        self._fit_weights_to_biases()
        self._write_tensors()
        self._write_biases()
        self.integer = {
            node.name
            for node in model.graph.node
            if node.op_type in WEIGHTED and all(name in self.through for name in node.input[:2])
        }
        self._connect()
        self._drop_unread_constants()

    def _activation_scales(self, ranges: Mapping[str, Range]) -> dict[str, _Scale]:
        own = [n for n, m in self._marks.tensors.items() if not m.like and n not in self._constants]
        nothing = (np.nan, np.nan)
        both = np.array([ranges.get(name, nothing) for name in own], np.float32).reshape(-1, 2)
        missing = np.flatnonzero(~np.isfinite(both).all(axis=1))
        if missing.size:
            raise QuantizeError(f"tensor {own[missing[0]]} has no finite range", code="not_placed")
        symmetric = self._rules.symmetric
        element = TensorProto.INT8 if symmetric else TensorProto.UINT8
        found = zip(
            own, *scales_and_zeros(both[:, 0], both[:, 1], symmetric=symmetric), strict=True
        )
        return {name: _Scale(np.array(scale), zero, element) for name, scale, zero in found}

    def _constant_scales(self) -> dict[str, _Scale]:
        found = {}
        for name, mark in self._marks.tensors.items():
            if name in self._constants and not mark.like:
                symmetric = mark.weight or self._rules.symmetric
                values = self._marks.constants[name]
                scale, zero = scales_and_zeros(*spans(values, mark.axis), symmetric=symmetric)
                element = TensorProto.INT8 if symmetric else TensorProto.UINT8
                found[name] = _Scale(scale, zero, element, mark.axis)
        return found

    def _fit_weights_to_biases(self) -> None:
        for bias in self._marks.biases.values():
            weight, read = self._scales.get(bias.weight), self._scales.get(bias.input)
            mark = self._marks.tensors.get(bias.weight, Mark())
            if weight and read and mark.weight:
                values = self._bias_values(bias, weight.scale)
                if values is not None:
                    weight.scale = fit_to_bias(weight.scale, float(read.scale), values)

    def _bias_values(
        self, bias: Bias, weight_scale: NDArray[np.float32]
    ) -> NDArray[np.float32] | None:
        """Return what a layer adds, one value per channel; None if it has another shape."""
        values = self._marks.constants[bias.source] * np.float32(bias.beta)
        if values.size == 1 and weight_scale.ndim:
            return np.broadcast_to(values.reshape(1), weight_scale.shape)
        return values if not weight_scale.ndim or values.size == weight_scale.size else None

    def _write_tensors(self) -> None:
        shared = {}
        for name, mark in self._marks.tensors.items():
            if mark.like:
                shared[name] = mark.like
                continue
            found = self._scales[name]
            found.names = self._write_scale(name, found)
            if name in self._constants:
                self._write_constant(name, found)
            else:
                self._write_pair(name, found.names)
        while ready := [name for name, like in shared.items() if like in self._scales]:
            for name in ready:
                self._scales[name] = self._scales[shared.pop(name)]
                self._write_pair(name, self._scales[name].names)

    def _write_scale(self, name: str, found: _Scale) -> tuple[str, str]:
        scale, zero = self._free(f"{name}_scale"), self._free(f"{name}_zero_point")
        dims = found.scale.shape
        self._initializers += [
            TensorProto(
                name=zero, data_type=found.element, dims=dims, int32_data=found.zero.reshape(-1).tolist()
            ),
            TensorProto(
                name=scale, data_type=TensorProto.FLOAT, dims=dims,
                float_data=found.scale.reshape(-1).tolist(),
            ),
        ]  # fmt: skip
        return scale, zero

    def _write_constant(self, name: str, found: _Scale) -> None:
        values = self._marks.constants[name]
        codes = codes_of(values, found.scale, found.zero, found.axis)
        kind = np.int8 if found.element == TensorProto.INT8 else np.uint8
        limits = np.iinfo(kind)
        target = self._free(f"{name}_quantized")
        limited = np.clip(codes, limits.min, limits.max).astype(kind)
        self._initializers.append(_tensor(target, found.element, limited))
        self.through[name] = self._dequantize(name, target, found.names, found.axis)

    def _write_pair(self, name: str, names: tuple[str, str]) -> None:
        codes = f"{name}_QuantizeLinear_Output"
        output = ""
        if name in self._ends:  # the output of the model keeps its name
            self.raw[name], output = f"{name}_QuantizeLinear_Input", name
        self._nodes.append(
            onnx.NodeProto(
                op_type="QuantizeLinear", name=f"{name}_QuantizeLinear",
                input=[self.raw.get(name, name), *names], output=[codes],
            )
        )  # fmt: skip
        self.through[name] = self._dequantize(name, codes, names, None, output)

    def _dequantize(
        self, name: str, codes: str, names: tuple[str, str], axis: int | None, output: str = ""
    ) -> str:
        output = output or f"{name}_DequantizeLinear_Output"
        node = onnx.NodeProto(
            op_type="DequantizeLinear", name=f"{name}_DequantizeLinear",
            input=[codes, *names], output=[output],
        )  # fmt: skip
        if axis is not None:
            node.attribute.add(name="axis", type=onnx.AttributeProto.INT, i=axis)
        self._nodes.append(node)
        return output

    def _write_biases(self) -> None:
        """Write biases as int32; one without scales, or of another shape, stays in float."""
        for name in list(self._marks.biases):
            bias = self._marks.biases[name]
            weight, read = self._scales.get(bias.weight), self._scales.get(bias.input)
            values = self._bias_values(bias, weight.scale) if weight else None
            if name in self.through or not weight or not read or values is None:
                del self._marks.biases[name]
                continue
            scale = (read.scale * weight.scale).reshape(-1)
            codes = _tensor(
                self._free(f"{name}_quantized"), TensorProto.INT32, bias_codes(values, scale)
            )
            scales = _tensor(self._free(f"{codes.name}_scale"), TensorProto.FLOAT, scale)
            zero = self._free(f"{codes.name}_zero_point")
            if scale.size > 1:
                zeros = _tensor(zero, TensorProto.INT32, np.zeros(scale.shape, np.int32))
            else:
                zeros = TensorProto(name=zero, data_type=TensorProto.INT32, int32_data=[0])
            self._initializers += [codes, scales, zeros]
            axis = 0 if scale.size > 1 else None
            self._dequantize(name, codes.name, (scales.name, zero), axis, name)

    def _connect(self) -> None:
        """Make nodes read and write through Q/DQ.

        Where a scheme quantizes the inputs of layers only, other nodes read from before Q/DQ.
        """
        written = dict(self.raw)
        for source in reversed(self._marks.joined):  # a Relu behind another comes later
            target = self._marks.joined[source]
            written[source] = written.get(target, target)
        biases = {bias.layer: name for name, bias in self._marks.biases.items()}
        nodes = [node for node in self._graph.node if node.name not in self._marks.removed]
        for node in nodes:
            whole = self._rules.between or node.name in self.integer
            _rename(node.input, self.through if whole else self.raw)
            _rename(node.output, written)
            if node.name in biases:
                node.input[_BIAS] = biases[node.name]
                for attribute in node.attribute:
                    if attribute.name == "beta":
                        attribute.f = 1.0
        if self._marks.removed:
            del self._graph.node[:]
            self._graph.node.extend(nodes)
        self._graph.node.extend(self._nodes)

    def _drop_unread_constants(self) -> None:
        read = {name for node in self._graph.node for name in node.input}
        read |= self._ends | self._marks.bodies
        read -= self._marks.biases.keys()
        kept = [t for t in self._graph.initializer if t.name in read]
        if len(kept) != len(self._graph.initializer):
            del self._graph.initializer[:]
            self._graph.initializer.extend(kept)
        self._graph.initializer.extend(self._initializers)

    def _free(self, name: str) -> str:
        while name in self._taken:
            name += "+"
        self._taken.add(name)
        return name


def _tensor(name: str, element: int, values: NDArray[Any]) -> onnx.TensorProto:
    return TensorProto(name=name, data_type=element, dims=values.shape, raw_data=values.tobytes())


def _rename(names: Any, new: Mapping[str, str]) -> None:
    for index, name in enumerate(names):
        if name in new:
            names[index] = new[name]
