"""Exact INT8 input: the first layers read pixels shifted onto the 256 INT8 codes.

A camera's pixels have 256 levels, as many as INT8 has codes, and normalization per channel keeps
them evenly spaced. But a calibrated symmetric scale spends up to half of its codes on negative
values that pictures do not have, and its codes lie between the levels. Shifted so that the middle
level is zero and the step is the scale, every value is a code. The layer's bias undoes the shift
exactly once its padding is done before the shift: a Pad and a Sub on three channels, and a Mul
where their steps differ.

Levels are detected on the calibration frames, not taken from the configuration, so that operators
before the first layer are included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from agent.graphs.compute import WEIGHTED, shapes
from agent.graphs.edits import (
    add_to_bias,
    copy_of,
    drop_unused_initializers,
    group_of,
    has_auto_pad,
    has_padding,
    has_subgraphs,
    initializer_values,
    int_attribute,
    set_input,
    unused_name,
)
from agent.graphs.moments import Frame, tensor_values

_STEP = "quantd.step:"  # prefix of a tensor's name in the model's metadata
_CODES = 256
_FEWEST = 64  # levels seen; with fewer their distance is not reliable
_OFF = 0.02  # of a step: tolerance for float arithmetic
_RANK = 4


@dataclass(frozen=True, slots=True)
class Levels:
    """The evenly spaced values of one channel.

    Attributes:
        low: The smallest value that must be a code.
        high: The largest.
        step: Distance of neighbours, > 0.
    """

    low: float
    high: float
    step: float

    @property
    def middle(self) -> float:
        """Return the level that becomes zero, so that the others become -128 to 127."""
        return self.low + self.step * ((round((self.high - self.low) / self.step) + 1) // 2)


def merge_distinct(known: NDArray[np.float64], values: NDArray[Any]) -> NDArray[np.float64]:
    """Merge more values into the sorted distinct values of one channel.

    Values within the float tolerance are one. Once there are more than 256, or NaN or infinity
    among them, the channel has no levels and the result stays that way.
    """
    if len(known) > _CODES:
        return known
    found = np.union1d(known, values.astype(np.float64))
    if not np.isfinite(found).all():
        return np.full(_CODES + 1, np.nan)
    apart = np.diff(found, prepend=-np.inf) > _OFF * (found[-1] - found[0]) / _CODES
    return np.asarray(found[apart])


def find_levels(seen: NDArray[np.float64], *, zero: bool) -> Levels | None:
    """Return the levels of one channel; None if there are too many, too few or uneven ones.

    Args:
        seen: From `merge_distinct`.
        zero: True if 0 must be a code too; it may lie between two levels.
    """
    if not _FEWEST <= len(seen) <= _CODES:
        return None
    gaps = np.diff(seen)
    index = np.rint((seen - seen[0]) / np.median(gaps[gaps < 1.5 * gaps.min()]))
    step = float(seen[-1] - seen[0]) / float(index[-1])
    if np.abs(seen - seen[0] - index * step).max() > 2 * _OFF * step:
        return None
    low, high = float(seen[0]), float(seen[-1])
    if zero:
        low -= step * np.ceil(max(low, 0) / step - _OFF)
        high = max(high, 0.0)
    return Levels(low, high, step) if round((high - low) / step) < _CODES else None


def input_convolutions(model: onnx.ModelProto) -> tuple[onnx.NodeProto, ...]:
    """Return an inferred model's convolutions without another layer before them."""
    graph = model.graph
    if has_subgraphs(graph):
        return ()
    known = shapes(graph)
    constants = {tensor.name for tensor in graph.initializer}
    before = {value.name for value in graph.input}
    found = []
    for node in graph.node:  # in order
        if node.op_type not in WEIGHTED:
            varying = {name for name in node.input if name not in constants} - {""}
            if varying and varying <= before:
                before.update(node.output)
        elif node.op_type == "Conv" and node.input[0] in before and not has_auto_pad(node):
            own = all(name in constants for name in node.input[1:] if name)
            if own and len(known[node.input[1]]) == _RANK:
                found.append(node)
    return tuple(found)


def input_levels(
    model: onnx.ModelProto, frames: Iterable[Frame], threads: int
) -> dict[str, tuple[Levels, ...]]:
    """Return the levels of each channel for those of `input_convolutions` that read levels.

    Args:
        model: From `qdq.load_inferred`.
        frames: Inputs of the model, a few.
        threads: Of the runtime; 0 takes all cores.

    Raises:
        CalibrationError: "model_failed" on a frame.
    """
    readers = input_convolutions(model)
    names = tuple(dict.fromkeys(node.input[0] for node in readers))
    seen: dict[str, list[NDArray[np.float64]]] = {}
    for shown in tensor_values(model, names, frames, threads) if names else ():
        for name, value in shown.items():
            known = seen.get(name) or [np.empty(0)] * value.shape[1]
            seen[name] = [merge_distinct(*pair) for pair in zip(known, value[0], strict=True)]
    found = {}
    for node in readers:
        each = [
            find_levels(values, zero=has_padding(node)) for values in seen.get(node.input[0], ())
        ]
        even = tuple(one for one in each if one)
        if even and len(even) == len(each):
            found[node.name] = even
    return found


def aligned_to_levels(
    model: onnx.ModelProto, found: Mapping[str, Sequence[Levels]]
) -> tuple[onnx.ModelProto, int]:
    """Return a copy in which convolutions read INT8 codes times a step, and how many do.

    Args:
        model: From `qdq.load_inferred`.
        found: From `input_levels`.
    """
    whole = copy_of(model)
    graph = whole.graph
    for node in [n for n in graph.node if n.name in found]:
        steps = np.array([one.step for one in found[node.name]])
        middles = np.array([one.middle for one in found[node.name]])
        one_step = float(np.ptp(steps)) < _OFF * float(steps.min()) / _CODES
        by = np.ones(len(steps)) if one_step else steps
        weight = initializer_values(graph, node.input[1]).astype(np.float64)
        groups = group_of(node)
        rows = np.repeat(np.stack([by, middles]).reshape(2, groups, -1), len(weight) // groups, 1)
        set_input(graph, node, 1, "weight", weight * rows[0][:, :, None, None])
        add_to_bias(graph, node, (weight.sum(axis=(2, 3)) * rows[1]).sum(axis=1))
        target = _insert_shift(graph, node, middles, by)
        step = float(steps.mean()) if one_step else 1.0
        whole.metadata_props.add(key=f"{_STEP}{target}", value=repr(step))
    drop_unused_initializers(graph)
    return whole, len(found)


def steps_of(model: onnx.ModelProto) -> dict[str, float]:
    """Return the step of each tensor whose values are -128 to 127 times a step."""
    return {
        entry.key.removeprefix(_STEP): float(entry.value)
        for entry in model.metadata_props
        if entry.key.startswith(_STEP)
    }


def _insert_shift(
    graph: onnx.GraphProto, node: onnx.NodeProto, middles: NDArray[Any], by: NDArray[Any]
) -> str:
    """Insert Pad, Sub and Mul in front of a convolution; return the name of its new input.

    Args:
        graph: Changed in place.
        node: The convolution.
        middles: Subtracted per channel.
        by: Divisor per channel.
    """
    made = []

    def append(operator: str, values: NDArray[Any]) -> None:
        name = unused_name(graph, f"{node.name}:{operator.lower()}")
        by = unused_name(graph, f"{name}:by")
        graph.initializer.append(numpy_helper.from_array(values, by))
        made.append(helper.make_node(operator, [node.input[0], by], [name], name))
        node.input[0] = name

    if has_padding(node):
        top, left, bottom, right = int_attribute(node, "pads", (0,))
        append("Pad", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
        kept = [a for a in node.attribute if a.name != "pads"]
        del node.attribute[:]
        node.attribute.extend(kept)
    append("Sub", middles.astype(np.float32).reshape(1, -1, 1, 1))
    if (by != 1).any():
        append("Mul", (1 / by).astype(np.float32).reshape(1, -1, 1, 1))
    target = str(node.input[0])
    place = next(i for i, other in enumerate(graph.node) if other.name == node.name)
    for one in reversed(made):
        graph.node.insert(place, one)
    return target
