"""Layers that read the picture itself, given its own levels: INT8 without any error.

A camera's pixels have 256 levels, as INT8 has codes, and a scale, a mean and a deviation for each
channel leave them evenly spaced. But a symmetric scale found by calibration spends up to half of its
codes on negative values that pictures do not have, and puts the rest between the levels. Moved
so that the middle level is zero and the step is the scale, every value is a code. The layer takes
the shift back with its bias, exactly, once the zeros that it adds around the picture are added
before it: a pad and a subtraction on three channels, and a product where their steps differ.

Whether values lie on levels is seen on the calibration frames, not taken from the configuration,
so that what a graph does to its input before the first layer counts as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from agent.graphs.compute import WEIGHTED, shapes
from agent.graphs.edits import (
    add_to_bias,
    adds_zeros,
    copied,
    drop_unused,
    give,
    group_of,
    has_bodies,
    numbers_of,
    pads_by_itself,
    unused,
    values_of,
)
from agent.graphs.moments import Frames, tensors

_STEP = "quantd.step:"  # of the model's metadata, before the tensor's name
_CODES = 256
_FEWEST = 64  # levels seen; of fewer the distance of two tells little
_OFF = 0.02  # of a step: what float arithmetic may do to a level
_RANK = 4


@dataclass(frozen=True, slots=True)
class Levels:
    """The evenly spaced values of one channel.

    Attributes:
        low: The smallest that has to be a code.
        high: The largest.
        step: From one to the next, > 0.
    """

    low: float
    high: float
    step: float

    @property
    def middle(self) -> float:
        """Return the level that is to become zero, so that the others lie at -128 to 127."""
        return self.low + self.step * ((round((self.high - self.low) / self.step) + 1) // 2)


def joined(known: NDArray[np.float64], values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the distinct values of one channel in order, known ones and more; NaN stays.

    What is nearer than float arithmetic may bring apart is one; more than are codes may be cut.
    """
    if len(known) > _CODES:
        return known
    found = np.union1d(known, values.astype(np.float64))
    if not np.isfinite(found).all():
        return np.full(_CODES + 1, np.nan)
    apart = np.diff(found, prepend=-np.inf) > _OFF * (found[-1] - found[0]) / _CODES
    return np.asarray(found[apart])


def levels(seen: NDArray[np.float64], *, zero: bool) -> Levels | None:
    """Return the levels that values lie on, None if they are too many, too few or uneven.

    Args:
        seen: From `joined`.
        zero: True if 0 needs a code as well; it may lie between two levels.
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


def picture_readers(model: onnx.ModelProto) -> tuple[onnx.NodeProto, ...]:
    """Return the convolutions with no other layer between them and the model's input.

    Args:
        model: From `qdq.inferred`.
    """
    graph = model.graph
    if has_bodies(graph):
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
        elif node.op_type == "Conv" and node.input[0] in before and not pads_by_itself(node):
            own = all(name in constants for name in node.input[1:] if name)
            if own and len(known[node.input[1]]) == _RANK:
                found.append(node)
    return tuple(found)


def picture_levels(
    model: onnx.ModelProto, frames: Frames, threads: int
) -> dict[str, tuple[Levels, ...]]:
    """Return by name the `picture_readers` that read levels, with those of each channel.

    Args:
        model: From `qdq.inferred`.
        frames: Inputs of the model, a few.
        threads: Of the runtime; 0 takes all cores.

    Raises:
        CalibrationError: "model_failed" on a frame.
    """
    readers = picture_readers(model)
    names = tuple(dict.fromkeys(node.input[0] for node in readers))
    seen: dict[str, list[NDArray[np.float64]]] = {}
    for shown in tensors(model, names, frames, threads) if names else ():
        for name, value in shown.items():
            known = seen.get(name) or [np.empty(0)] * value.shape[1]
            seen[name] = [joined(*pair) for pair in zip(known, value[0], strict=True)]
    found = {}
    for node in readers:
        each = [levels(values, zero=adds_zeros(node)) for values in seen.get(node.input[0], ())]
        even = tuple(one for one in each if one)
        if even and len(even) == len(each):
            found[node.name] = even
    return found


def in_levels(
    model: onnx.ModelProto, found: Mapping[str, Sequence[Levels]]
) -> tuple[onnx.ModelProto, int]:
    """Return a copy in which convolutions read levels, and how many.

    Args:
        model: From `qdq.inferred`.
        found: From `picture_levels`.
    """
    whole = copied(model)
    graph = whole.graph
    for node in [n for n in graph.node if n.name in found]:
        steps = np.array([one.step for one in found[node.name]])
        middles = np.array([one.middle for one in found[node.name]])
        one_step = float(np.ptp(steps)) < _OFF * float(steps.min()) / _CODES
        by = np.ones(len(steps)) if one_step else steps
        weight = values_of(graph, node.input[1]).astype(np.float64)
        groups = group_of(node)
        rows = np.repeat(np.stack([by, middles]).reshape(2, groups, -1), len(weight) // groups, 1)
        give(graph, node, 1, "weight", weight * rows[0][:, :, None, None])
        add_to_bias(graph, node, (weight.sum(axis=(2, 3)) * rows[1]).sum(axis=1))
        target = _moved(graph, node, middles, by)
        step = float(steps.mean()) if one_step else 1.0
        whole.metadata_props.add(key=f"{_STEP}{target}", value=repr(step))
    drop_unused(graph)
    return whole, len(found)


def steps_of(model: onnx.ModelProto) -> dict[str, float]:
    """Return by name the tensors that hold -128 to 127 times a step, and the steps."""
    return {
        entry.key.removeprefix(_STEP): float(entry.value)
        for entry in model.metadata_props
        if entry.key.startswith(_STEP)
    }


def _moved(
    graph: onnx.GraphProto, node: onnx.NodeProto, middles: NDArray[Any], by: NDArray[Any]
) -> str:
    """Let a convolution read its input padded, less `middles`, over `by`; return that name."""
    made = []

    def then(operator: str, values: NDArray[Any]) -> None:
        name = unused(graph, f"{node.name}:{operator.lower()}")
        by = unused(graph, f"{name}:by")
        graph.initializer.append(numpy_helper.from_array(values, by))
        made.append(helper.make_node(operator, [node.input[0], by], [name], name))
        node.input[0] = name

    if adds_zeros(node):
        top, left, bottom, right = numbers_of(node, "pads", (0,))
        then("Pad", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
        kept = [a for a in node.attribute if a.name != "pads"]
        del node.attribute[:]
        node.attribute.extend(kept)
    then("Sub", middles.astype(np.float32).reshape(1, -1, 1, 1))
    if (by != 1).any():
        then("Mul", (1 / by).astype(np.float32).reshape(1, -1, 1, 1))
    target = str(node.input[0])
    place = next(i for i, other in enumerate(graph.node) if other.name == node.name)
    for one in reversed(made):
        graph.node.insert(place, one)
    return target
