"""Refit of INT8 layers, one after the other, on what the refitted layers before them leave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from agent.core.errors import CalibrationError
from agent.core.quantization.refit import InputOutputMoments, refitted
from agent.core.quantization.weight_rounding import round_weights
from agent.engines.errors import ONNXRUNTIME_ERRORS, one_line
from agent.graphs.compute import Shape, shapes
from agent.graphs.edits import (
    copy_of,
    drop_unused_initializers,
    group_of,
    has_subgraphs,
    int_attribute,
    keep_nodes_for,
    set_inputs,
    sort_topologically,
)
from agent.graphs.moments import conv_columns, row_length
from agent.graphs.replay import Layer, Replay, Values
from agent.graphs.sessions import session
from agent.graphs.weights import STEPS, from_rows, roundable_layers, shrunk, to_rows

_POSITIONS = 512  # sampled per frame
_PER_WEIGHT = 2  # positions for each weight of a row, at least; a layer with fewer stays as it is
_KEPT_BYTES = 64_000_000  # of the INT8 graph, between layers
_TARGET_BYTES = 32_000_000  # of FP32's outputs at the sampled positions
_BIAS = 2  # input of a layer


def refit(
    clean: onnx.ModelProto, placed: onnx.ModelProto, frames: Sequence[Values], threads: int
) -> Iterator[tuple[str, Layer]]:
    """Yield INT8 layers with the weights and biases that give FP32's outputs best.

    Weights are codes times their channel's scale, as in `weights.least_error_weights`. Refitted are
    2-D Conv and Gemm; a layer with few positions for its many weights is left as it is.

    Args:
        clean: In float, inferred.
        placed: Its INT8 graph.
        frames: Inputs of the model; at least 2, or nothing is refitted.
        threads: Of the runtime; 0 takes all cores.

    Raises:
        CalibrationError: "model_failed" on a frame.
    """
    if len(frames) <= 1 or has_subgraphs(placed.graph):
        return
    sort_topologically(placed.graph)
    known = shapes(clean.graph)
    constants = {tensor.name: tensor for tensor in clean.graph.initializer}
    inputs = _inputs_of_integer_layers(placed)
    wanted = {n.name: n for n in roundable_layers(clean) if n.name in inputs}
    layers = [
        wanted[node.name]
        for node in placed.graph.node
        if node.name in wanted and _is_refittable(wanted[node.name], known, constants, len(frames))
    ]
    replay = Replay(placed, frames, threads, _KEPT_BYTES)
    done: dict[str, Layer] = {}
    targets: dict[str, list[NDArray[np.float32]]] = {}
    for index, node in enumerate(layers):
        if node.name not in targets:
            targets = _targets(clean, layers[index:], frames, threads)
        later = [inputs[other.name] for other in layers[index + 1 :]]
        values = replay.values(inputs[node.name], later, done)
        weight = numpy_helper.to_array(constants[node.input[1]])
        positions = _positions(node, known, len(frames))
        columns = map(partial(_columns, node, weight.shape), values, positions)  # keeps no value
        done[node.name] = _refitted(node, weight, columns, targets.pop(node.name))
        yield node.name, done[node.name]


def with_layers(model: onnx.ModelProto, layers: Mapping[str, Layer]) -> onnx.ModelProto:
    """Return a copy in which some layers have other weights and biases."""
    whole = copy_of(model)
    changed = [node for node in whole.graph.node if node.name in layers]
    set_inputs(whole.graph, [(node, layers[node.name][0]) for node in changed], 1, "rounded")
    set_inputs(whole.graph, [(node, layers[node.name][1]) for node in changed], _BIAS, "corrected")
    drop_unused_initializers(whole.graph)
    return whole


def _refitted(
    node: onnx.NodeProto,
    weight: NDArray[np.float32],
    columns: Iterable[NDArray[np.float32]],
    outputs: Sequence[NDArray[np.float32]],
) -> Layer:
    halves: list[InputOutputMoments] = []
    for index, (read, written) in enumerate(zip(columns, outputs, strict=True)):
        if not halves:
            first = InputOutputMoments.around_means(read, written)
            halves = [first, first.empty()]
        halves[2 * index // len(outputs)].add(read, written)
    first, second = halves
    rows = refitted(to_rows(node, weight), (first, second)).astype(np.float64)
    scales = np.abs(rows).max(axis=2) / STEPS
    scales = np.where(scales > 0, scales, 1)  # a dead channel is zero at any scale
    weighting = shrunk(first.covariances()[0], first.count)
    rows = scales[..., None] * round_weights(rows, scales, weighting)
    bias = first.bias(rows).reshape(-1)
    return from_rows(node, rows, weight.shape).astype(np.float32), bias.astype(np.float32)


def _inputs_of_integer_layers(placed: onnx.ModelProto) -> dict[str, str]:
    """Return the input of each node that reads two INT8 operands."""
    made = {n.output[0] for n in placed.graph.node if n.op_type == "DequantizeLinear"}
    return {
        node.name: node.input[0]
        for node in placed.graph.node
        if len(node.input) > 1 and made.issuperset(node.input[:2])
    }


def _is_refittable(
    node: onnx.NodeProto,
    known: Mapping[str, Shape],
    constants: Mapping[str, onnx.TensorProto],
    frames: int,
) -> bool:
    if node.op_type == "ConvTranspose" or not all(n in constants for n in node.input[1:] if n):
        return False
    if node.op_type == "Gemm" and (
        int_attribute(node, "transA", (0,))[0]
        or any(a.name in {"alpha", "beta"} and a.f != 1 for a in node.attribute)
    ):
        return False
    if (
        node.output[0] not in known
        or not np.isfinite(numpy_helper.to_array(constants[node.input[1]])).all()
    ):
        return False
    positions = frames * min(_available(known[node.output[0]]), _POSITIONS)
    return positions >= _PER_WEIGHT * row_length(node, known[node.input[1]])


def _available(output: Shape) -> int:
    """Return the positions of an output (1, channels, height, width) or (rows, channels)."""
    return prod(output[2:]) if len(output) > _BIAS else output[0]


def _positions(
    node: onnx.NodeProto, known: Mapping[str, Shape], frames: int
) -> Iterator[NDArray[np.int64]]:
    """Yield the sampled positions of a layer's output for each frame, always the same ones."""
    available = _available(known[node.output[0]])
    for frame in range(frames):
        draw = np.random.default_rng(frame)
        yield draw.choice(available, min(available, _POSITIONS), replace=False)


def _columns(
    node: onnx.NodeProto, shape: Sequence[int], values: NDArray[Any], at: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return a layer's im2col columns at some positions, shape (groups, k, positions)."""
    if node.op_type == "Conv":
        return conv_columns(node, values, shape, at)
    return np.ascontiguousarray(values[at].T)[None]


def _targets(
    clean: onnx.ModelProto, layers: Sequence[onnx.NodeProto], frames: Sequence[Values], threads: int
) -> dict[str, list[NDArray[np.float32]]]:
    """Return FP32's outputs at the sampled positions, of as many layers as memory allows.

    By layer and frame, shape (groups, rows, positions); of the first layer in any case.
    """
    known = shapes(clean.graph)
    some: list[onnx.NodeProto] = []
    used = 0
    for node in layers:
        output = known[node.output[0]]
        used += 4 * len(frames) * output[1] * min(_available(output), _POSITIONS)
        if some and used > _TARGET_BYTES:
            break
        some.append(node)
    trial = copy_of(clean)
    keep_nodes_for(trial.graph, [node.output[0] for node in some])
    del trial.graph.output[:]
    for node in some:
        _add_sample(trial.graph, node, known[node.output[0]])
    drawn = {node.name: _positions(node, known, len(frames)) for node in some}
    found: dict[str, list[NDArray[np.float32]]] = {node.name: [] for node in some}
    try:
        opened = session(trial, threads)
        for frame in frames:
            at = {f"{name}:at": next(positions) for name, positions in drawn.items()}
            for name, values in zip(found, opened.run(None, {**frame, **at}), strict=True):
                found[name].append(np.array(values))  # not a view of the session's memory
    except ONNXRUNTIME_ERRORS as e:
        raise CalibrationError(
            f"the model does not run on a calibration frame: {one_line(e)}", code="model_failed"
        ) from e
    return found


def _add_sample(graph: onnx.GraphProto, node: onnx.NodeProto, output: Shape) -> None:
    """Add an output (groups, rows, positions) with a layer's values at positions that are fed."""
    name, channels = node.name, output[1]
    groups = group_of(node) if node.op_type == "Conv" else 1
    for part, shape in (("flat", (channels, -1)), ("grouped", (groups, channels // groups, -1))):
        graph.initializer.append(
            numpy_helper.from_array(np.array(shape, np.int64), f"{name}:{part}")
        )
    if node.op_type == "Conv":
        flat = helper.make_node("Reshape", [node.output[0], f"{name}:flat"], [f"{name}:channels"])
    else:
        flat = helper.make_node("Transpose", [node.output[0]], [f"{name}:channels"])
    graph.input.append(helper.make_tensor_value_info(f"{name}:at", TensorProto.INT64, [None]))
    graph.node.extend(
        [
            flat,
            helper.make_node(
                "Gather", [f"{name}:channels", f"{name}:at"], [f"{name}:some"], axis=1
            ),
            helper.make_node("Reshape", [f"{name}:some", f"{name}:grouped"], [f"{name}:sample"]),
        ]
    )
    graph.output.append(helper.make_tensor_value_info(f"{name}:sample", TensorProto.FLOAT, None))
