"""The axis of an operator's output that has the positions along an axis of its input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import onnx
from onnx import helper, numpy_helper

Sides = tuple[int | None, ...]
"""A shape; None for a side that is not known or not fixed."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One input of a node, and one output.

    Attributes:
        node: The node.
        place: Of the input among the node's inputs.
        axis: Of the input.
        inputs: The sides of every input; None if the rank is not known.
        after: Those of the output.
        constants: Initializers by name.
    """

    node: onnx.NodeProto
    place: int
    axis: int
    inputs: tuple[Sides | None, ...]
    after: Sides
    constants: Mapping[str, onnx.TensorProto]

    @property
    def before(self) -> Sides:
        """The sides of the input."""
        return self.inputs[self.place] or ()

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute."""
        found = next((a for a in self.node.attribute if a.name == name), None)
        return default if found is None else helper.get_attribute_value(found)

    def chosen(self, rank: int, default: int = 0) -> int:
        """Return the attribute `axis`, counted from the front of a tensor of this rank."""
        axis = int(self.attribute("axis", default))
        return axis + rank if axis < 0 else axis


def axis_after(reading: Reading) -> int | None:
    """Return the axis of the output; None if the positions are mixed or lost.

    Operators without a rule of their own are taken as elementwise: axes are aligned from the last
    one, and the side must stay the same.
    """
    kind = reading.node.op_type
    if kind.startswith("Reduce"):
        return _reduction(reading)
    found = _RULES.get(kind, _elementwise)(reading)
    return found if found is not None and 0 <= found < len(reading.after) else None


def _elementwise(reading: Reading) -> int | None:
    found = reading.axis + len(reading.after) - len(reading.before)
    if not 0 <= found < len(reading.after):
        return None
    side, other = reading.before[reading.axis], reading.after[found]
    return found if side == other or None in {side, other} else None


def _same(reading: Reading) -> int | None:
    """Keep the axis, whatever its length becomes."""
    return reading.axis


def _lost(_: Reading) -> int | None:
    return None


def _first_only(reading: Reading) -> int | None:
    return reading.axis if reading.place == 0 else None


def _reshaped(reading: Reading) -> int | None:
    """Find the axis with the same side behind as many values as before.

    A flat list of unknown length, as exporters make of a table to fill it up with zeros, becomes
    the lines of a table.
    """
    if reading.place:
        return None
    before, after = reading.before, reading.after
    if before == (None,):
        return next((axis for axis, side in enumerate(after) if side != 1), None)
    ahead = _amount(before[: reading.axis])
    same = (
        axis
        for axis, side in enumerate(after)
        if side == before[reading.axis] and _amount(after[:axis]) == ahead
    )
    return next(same, None)


def _amount(sides: Sides) -> tuple[int, int]:
    """Return the product of the known sides, and how many are not known."""
    return prod(side for side in sides if side is not None), sides.count(None)


def _transposed(reading: Reading) -> int | None:
    order: list[int] = list(reading.attribute("perm", ())) or list(range(len(reading.before)))[::-1]
    return order.index(reading.axis)


def _gathered(reading: Reading) -> int | None:
    rank = len(reading.inputs[0] or ())
    axis = reading.chosen(rank)
    if reading.place == 1:
        return axis + reading.axis
    if reading.axis == axis:
        return None
    return reading.axis if reading.axis < axis else reading.axis + len(reading.after) - rank


def _gathered_elements(reading: Reading) -> int | None:
    axis = reading.chosen(len(reading.inputs[0] or ()))
    return None if reading.place == 0 and reading.axis == axis else reading.axis


def _gathered_slices(reading: Reading) -> int | None:
    """Follow through GatherND: its indices' last axis names the leading axes of the data."""
    indices = reading.inputs[1] or ()
    if reading.place == 1:
        return reading.axis if reading.axis < len(indices) - 1 else None
    named = indices[-1] if indices else None
    first = int(reading.attribute("batch_dims", 0))
    if reading.axis < first:
        return reading.axis
    if named is None or reading.axis < first + named:
        return None
    return reading.axis + len(reading.after) - len(reading.before)


def _scattered_slices(reading: Reading) -> int | None:
    """Follow through ScatterND: updates end with the axes that its indices don't name."""
    if reading.place == 0:
        return reading.axis
    indices = reading.inputs[1] or ()
    named = indices[-1] if indices else None
    if reading.place == 1 or named is None or reading.axis < len(indices) - 1:
        return None
    return named + reading.axis - (len(indices) - 1)


def _product(reading: Reading) -> int | None:
    """Follow through MatMul: the last axis of the first factor meets the last but one."""
    from_last = len(reading.before) - reading.axis
    if from_last == (1 if reading.place == 0 else 2):
        return None
    return len(reading.after) - from_last


def _gemm(reading: Reading) -> int | None:
    if reading.place == 2:
        return _elementwise(reading)
    turned = bool(reading.attribute("transB" if reading.place else "transA", 0))
    kept = int(reading.place) if not turned else 1 - int(reading.place)
    return int(reading.place) if reading.axis == kept else None


def _einsum(reading: Reading) -> int | None:
    equation: str = reading.attribute("equation", b"").decode().replace(" ", "")
    left, _, right = equation.partition("->")
    terms = left.split(",")
    if "." in left or reading.place >= len(terms) or reading.axis >= len(terms[reading.place]):
        return None
    return right.find(terms[reading.place][reading.axis])


def _reduction(reading: Reading) -> int | None:
    """Follow through a reduction over other axes."""
    if reading.place:
        return None
    rank, axes = len(reading.before), reading.attribute("axes", None)
    if reading.node.op_type.startswith("Arg"):
        axes = [int(reading.attribute("axis", 0))]
    elif axes is None and len(reading.node.input) > 1 and reading.node.input[1]:
        tensor = reading.constants.get(reading.node.input[1])
        axes = None if tensor is None else numpy_helper.to_array(tensor).ravel().tolist()
    if axes is None:
        return None  # over all of them, or not known
    reduced = {int(axis) % rank for axis in axes}
    if reading.axis in reduced:
        return None
    if reading.attribute("keepdims", 1):
        return reading.axis
    return reading.axis - sum(axis < reading.axis for axis in reduced)


def _one_hot(reading: Reading) -> int | None:
    if reading.place:
        return None
    return reading.axis + (reading.axis >= reading.chosen(len(reading.after), -1))


def _sampled(reading: Reading) -> int | None:
    """Follow the places of GridSample, (N, H, W, 2), to (N, C, H, W)."""
    last = len(reading.before) - 1
    if reading.place == 0 or reading.axis == last:
        return None
    return reading.axis + (reading.axis > 0)


def _regions(reading: Reading) -> int | None:
    """Follow the regions of RoiAlign, not the picture."""
    return 0 if reading.place and reading.axis == 0 else None


_RULES: Mapping[str, Callable[[Reading], int | None]] = {
    "ArgMax": _reduction,
    "ArgMin": _reduction,
    "Attention": _first_only,
    "Concat": _same,
    "ConstantOfShape": _lost,
    "Einsum": _einsum,
    "Flatten": _reshaped,
    "Gather": _gathered,
    "GatherElements": _gathered_elements,
    "GatherND": _gathered_slices,
    "Gemm": _gemm,
    "GridSample": _sampled,
    "MatMul": _product,
    "MultiHeadAttention": _first_only,
    "OneHot": _one_hot,
    "Pad": _first_only,
    "Range": _lost,
    "Reshape": _reshaped,
    "RoiAlign": _regions,
    "ScatterElements": _first_only,
    "ScatterND": _scattered_slices,
    "Shape": _lost,
    "Size": _lost,
    "Slice": _first_only,
    "Split": _first_only,
    "Squeeze": _reshaped,
    "Transpose": _transposed,
    "Unsqueeze": _reshaped,
}
