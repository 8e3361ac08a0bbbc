"""INT8 graphs tried on a few frames by ONNX Runtime, before any engine is built."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from agent.core.errors import QuantizeError
from agent.core.precision import Noise
from agent.graphs.compute import WEIGHTED, int8_share, node_macs
from agent.graphs.qdq import SCHEMES, inferred, nodes_touching, quantized_tensors, save, with_qdq
from agent.graphs.regions import holders, left_out
from agent.runtime_errors import ONNXRUNTIME_ERRORS, one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.core.fidelity import Comparison
    from agent.core.lineage import Fidelity
    from agent.ports import Tensors

Range = tuple[float, float]
_QUICK = 2  # frames for the noise of one place: every value at the outputs is a sample of it
_MANY_VALUES = 10_000


class OnnxRehearsal:
    """Implements `ports.Rehearsal` for one model, scheme and set of frames.

    Memory: the frames, the FP32 outputs on them, and one session at a time.

    Args:
        model: Path of the clean model.
        scheme: A key of SCHEMES.
        ranged: The tensors that have a range; layers at others stay in float.
        frames: Inputs of the model; all are kept.
        threads: Of the runtime; 0 takes all cores.
    """

    def __init__(
        self,
        model: str,
        scheme: str,
        ranged: Collection[str],
        frames: Sequence[Tensors],
        threads: int,
    ) -> None:
        self._clean = inferred(model)
        self._scheme = scheme
        self._frames = frames
        self._threads = threads
        graph = self._clean.graph
        self._tensors = tuple(t for t in quantized_tensors(self._clean, scheme) if t in ranged)
        self._blocked = nodes_touching(
            graph, set(quantized_tensors(self._clean, scheme)) - set(ranged)
        )
        held = holders(graph, scheme, self._tensors)
        self.tensors = {name: layers - set(self._blocked) for name, layers in held.items()}
        self._held = held
        self._weights = _rounded_weights(self._clean, scheme)
        self._expected = list(self._outputs(self._clean, frames))

    def layers(self) -> dict[str, tuple[str, int]]:
        """Return (operator, multiply-accumulates) of every layer that can run in INT8."""
        operators = SCHEMES[self._scheme].operators
        return {
            node.name: (node.op_type, macs)
            for node, macs in node_macs(self._clean)
            if node.op_type in operators and node.name not in self._blocked
        }

    def weight_noise(self, layer: str) -> Noise:
        """Return the noise at the outputs if the weights of one layer are rounded to INT8."""
        (node,) = [n for n in self._clean.graph.node if n.name == layer]
        trial = _copy(self._clean)
        changed = False
        for tensor in trial.graph.initializer:
            if tensor.name in node.input and (layer, tensor.name) in self._weights:
                rounded = numpy_helper.from_array(self._weights[layer, tensor.name], tensor.name)
                tensor.CopyFrom(rounded)
                changed = True
        return self._noise(trial) if changed else tuple(0.0 for _ in self._clean.graph.output)

    def activation_noise(self, ranges: Mapping[str, Range]) -> Noise:
        """Return the noise at the outputs if some activations alone are quantized."""
        trial = _copy(self._clean)
        for tensor, span in ranges.items():
            _quantize_tensor(trial.graph, tensor, span, symmetric=self._scheme == "S8S8")
        return self._noise(trial)

    def fidelity(
        self, ranges: Mapping[str, Range], kept: Collection[str], comparison: Comparison
    ) -> Fidelity | None:
        """Return how near the whole INT8 graph is to FP32, or None where it holds no number.

        Args:
            ranges: Of every tensor in `tensors`.
            kept: The layers in float.
            comparison: Fresh; it is filled.
        """
        placed = self.placed(ranges, kept)
        for expected, found in zip(
            self._expected, self._outputs(placed, self._frames), strict=True
        ):
            if not all(np.isfinite(value).all() for value in found.values()):
                return None
            comparison.add(expected, found)
        return comparison.result()

    def placed(self, ranges: Mapping[str, Range], kept: Collection[str]) -> onnx.ModelProto:
        """Return the INT8 graph with some layers in float."""
        out = {*left_out(self._clean.graph, self._scheme, self._held, kept), *self._blocked}
        return with_qdq(self._clean, self._scheme, ranges, tuple(out))

    def write(
        self, ranges: Mapping[str, Range], kept: Collection[str], target: str
    ) -> tuple[float, tuple[str, ...]]:
        """Write the INT8 graph; return (int8_macs_fraction, nodes kept float)."""
        placed = self.placed(ranges, kept)
        share, floating = int8_share(placed, self._clean)
        save(placed, target)
        return share, floating

    def _noise(self, model: onnx.ModelProto) -> Noise:
        values = sum(value.size for value in self._expected[0].values())
        wanted = _QUICK if values >= _MANY_VALUES else 2 * _QUICK
        step = max(len(self._frames) // wanted, 1)
        frames, expected = self._frames[::step], self._expected[::step]
        noise = dict.fromkeys(expected[0], 0.0)
        signal = dict.fromkeys(expected[0], 0.0)
        for reference, found in zip(expected, self._outputs(model, frames), strict=True):
            for name, value in reference.items():
                wide = value.astype(np.float64)
                noise[name] += float(np.square(wide - found[name]).sum())
                signal[name] += float(np.square(wide).sum())
        return tuple(_ratio(noise[name], signal[name]) for name in noise)

    def _outputs(self, model: onnx.ModelProto, frames: Sequence[Tensors]) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = self._threads
        names = [value.name for value in self._clean.graph.output]
        try:
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            for frame in frames:
                yield dict(zip(names, session.run(names, dict(frame)), strict=True))
        except ONNXRUNTIME_ERRORS as e:
            raise QuantizeError(f"ONNX Runtime on a quantized graph: {one_line(e)}") from e


def _rounded_weights(
    clean: onnx.ModelProto, scheme: str
) -> dict[tuple[str, str], NDArray[np.float32]]:
    """Return the weights as INT8 makes them, by (layer, initializer)."""
    known = dict.fromkeys(quantized_tensors(clean, scheme), (-1.0, 1.0))
    placed = with_qdq(clean, scheme, known).graph
    constants = {t.name: t for t in placed.initializer}
    dequantizers = {n.output[0]: n for n in placed.node if n.op_type == "DequantizeLinear"}
    weights = {t.name for t in clean.graph.initializer}
    before = {n.name: n for n in clean.graph.node}
    found = {}
    for node in placed.node:
        if node.op_type not in WEIGHTED or node.name not in before:
            continue
        for original, now in zip(before[node.name].input, node.input, strict=False):
            maker = dequantizers.get(now)
            if original not in weights or maker is None or maker.input[0] not in constants:
                continue
            codes = numpy_helper.to_array(constants[maker.input[0]])
            if codes.dtype != np.int8:  # a bias
                continue
            scale = numpy_helper.to_array(constants[maker.input[1]])
            axis = next((a.i for a in maker.attribute if a.name == "axis"), 1)
            if scale.ndim:
                scale = scale.reshape(
                    [-1 if i == axis % codes.ndim else 1 for i in range(codes.ndim)]
                )
            found[node.name, original] = (codes * scale).astype(np.float32)
    return found


def _quantize_tensor(graph: onnx.GraphProto, tensor: str, span: Range, *, symmetric: bool) -> None:
    """Put one Q/DQ pair on a tensor, so that whoever reads it reads what INT8 left of it."""
    low, high = span
    if symmetric:
        scale, zero = max(-low, high) / 127, np.int8(0)
    else:
        scale = (high - low) / 255
        zero = np.uint8(round(-low / scale))
    made = [i for i, node in enumerate(graph.node) if tensor in node.output]
    if made:
        _rename(graph.node[made[0]].output, tensor, f"{tensor}:float")
    else:  # an input of the model
        for node in graph.node:
            _rename(node.input, tensor, f"{tensor}:int8")
    source, target = (f"{tensor}:float", tensor) if made else (tensor, f"{tensor}:int8")
    graph.initializer.append(numpy_helper.from_array(np.float32(scale), f"{tensor}:scale"))
    graph.initializer.append(numpy_helper.from_array(np.array(zero), f"{tensor}:zero"))
    pair = [
        helper.make_node(
            kind, [read, f"{tensor}:scale", f"{tensor}:zero"], [written], f"{tensor}:{kind}"
        )
        for kind, read, written in (
            ("QuantizeLinear", source, f"{tensor}:codes"),
            ("DequantizeLinear", f"{tensor}:codes", target),
        )
    ]
    nodes = list(graph.node)
    place = made[0] + 1 if made else 0
    del graph.node[:]
    graph.node.extend([*nodes[:place], *pair, *nodes[place:]])


def _rename(names: Any, old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _ratio(noise: float, signal: float) -> float:
    if noise == 0:
        return 0.0
    return noise / signal if signal and math.isfinite(noise) else math.inf
