"""Running a graph over frames piece by piece, from what was kept in front of each piece."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from agent.core.errors import CalibrationError
from agent.engines.errors import ONNXRUNTIME_ERRORS, one_line
from agent.graphs.edits import set_inputs
from agent.graphs.sessions import copied, session

Values = Mapping[str, NDArray[Any]]
Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Weights and bias."""
_BIAS = 2  # input of a layer


class Replay:
    """Values inside a graph over the same frames, asked for from its inputs to its outputs.

    What later values depend on is kept for every frame, INT8 codes rather than what is dequantized
    from them, as long as it fits into memory; else the next piece begins further in front.

    Args:
        model: With nodes in topological order, without If or Loop.
        frames: Inputs of the model.
        threads: Of the runtime; 0 takes all cores.
        most_bytes: To keep of all frames together.
    """

    def __init__(
        self, model: onnx.ModelProto, frames: Sequence[Values], threads: int, most_bytes: int
    ) -> None:
        self._model = model
        self._threads = threads
        self._most_bytes = most_bytes
        self._kept = list(frames)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._nodes = list(model.graph.node)
        self._makers = {name: i for i, n in enumerate(self._nodes) for name in n.output if name}

    def values(
        self, tensor: str, later: Collection[str], layers: Mapping[str, Layer]
    ) -> Iterator[NDArray[Any]]:
        """Yield the values of a tensor for each frame.

        Args:
            tensor: Its name.
            later: The tensors of later calls.
            layers: Layers with other weights and biases, by name. Those that `tensor` depends on
                stay as they are in later calls.

        Raises:
            CalibrationError: "model_failed" on a frame.
        """
        live = self._live(tensor, later, layers)
        outputs = [name for name in dict.fromkeys((tensor, *live)) if name not in self._kept[0]]
        found: list[Values] = []
        size = 0
        try:
            piece = self._piece(outputs, layers)
            opened = session(piece, self._threads, as_written=True)
            feeds = [value.name for value in piece.graph.input]
            for frame in self._kept:
                ran = opened.run(None, {name: frame[name] for name in feeds}) if outputs else ()
                values = {**frame, **dict(zip(outputs, ran, strict=True))}
                size += sum(values[name].nbytes for name in live)
                if size <= self._most_bytes:
                    kept = {name: frame[name] for name in live if name in frame}
                    made = copied({name: values[name] for name in live if name not in frame})
                    found.append({**kept, **made})
                else:
                    found.clear()
                yield values.pop(tensor)
                del ran, values  # memory of the session, which the next frame would take once more
        except ONNXRUNTIME_ERRORS as e:
            raise CalibrationError(
                f"the model does not run on a calibration frame: {one_line(e)}", code="model_failed"
            ) from e
        if size <= self._most_bytes:
            self._kept = found

    def _live(
        self, tensor: str, later: Collection[str], layers: Mapping[str, Layer]
    ) -> tuple[str, ...]:
        """Return what is known once a tensor is, and read on the way to the later ones."""
        before = self._needed([tensor], layers)
        after = self._needed(later, layers) - before
        known = {*self._kept[0], *(name for i in before for name in self._nodes[i].output)}
        read = {name for i in after for name in self._read(i, layers)} | {*later}
        return tuple(sorted({self._codes(name) for name in read & known} - self._constants.keys()))

    def _codes(self, tensor: str) -> str:
        """Return the codes that a tensor is dequantized from, or the tensor itself."""
        node = self._nodes[self._makers[tensor]] if tensor in self._makers else None
        if node and node.op_type == "DequantizeLinear" and tensor not in self._kept[0]:
            return str(node.input[0])
        return tensor

    def _read(self, index: int, layers: Mapping[str, Layer]) -> Sequence[str]:
        node = self._nodes[index]
        return [*node.input[:1]] if node.name in layers else [*node.input]

    def _needed(self, names: Collection[str], layers: Mapping[str, Layer]) -> set[int]:
        """Return the nodes between what is kept and some tensors."""
        found: set[int] = set()
        left = list(names)
        while left:
            name = left.pop()
            if name in self._makers and name not in self._kept[0]:
                index = self._makers[name]
                if index not in found:
                    found.add(index)
                    left += self._read(index, layers)
        return found

    def _piece(self, outputs: Sequence[str], layers: Mapping[str, Layer]) -> onnx.ModelProto:
        indices = sorted(self._needed(outputs, layers))
        piece = onnx.ModelProto(ir_version=self._model.ir_version)
        piece.opset_import.extend(self._model.opset_import)
        graph = piece.graph
        graph.name = "piece"
        graph.node.extend(self._nodes[i] for i in indices)
        changed = [node for node in graph.node if node.name in layers]
        set_inputs(graph, [(node, layers[node.name][0]) for node in changed], 1, "refitted")
        set_inputs(graph, [(node, layers[node.name][1]) for node in changed], _BIAS, "bias")
        for name in sorted({name for i in indices for name in self._read(i, layers)}):
            if name in self._kept[0]:
                value = self._kept[0][name]
                kind = helper.np_dtype_to_tensor_dtype(value.dtype)
                graph.input.append(helper.make_tensor_value_info(name, kind, value.shape))
            elif name in self._constants:
                graph.initializer.append(self._constants[name])
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        return piece
