"""Histograms of tensors, counted frame by frame and merged exactly.

Bins divide [-2^exponent, 2^exponent). As every range is a power of two, a histogram is widened by
adding neighbouring bins, so merged parts equal a count of the whole at the wider range, bin for bin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import CalibrationError

BINS = 4096
"""Bins per sign. The largest value is in the upper half: 2048 bins are used, as in Migacz 2017."""
LOWEST_EXPONENT = -64
"""Values below 2^-64 (5e-20) count as zero and get no scale."""
HIGHEST_EXPONENT = 120
"""float32 ends at 2^128; beyond 2^120 a sum over one convolution may already overflow."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TensorHistogram:
    """Histogram and extremes of one tensor.

    Attributes:
        name: The tensor's name in the clean model.
        minimum: Smallest value; NaN or infinite if such a value occurred.
        maximum: Largest value, likewise.
        exponent: The bins divide [-2^exponent, 2^exponent).
        counts: Shape (2 * BINS,), int64, ascending; zeros if no finite value was counted.
        count: The sum of counts; fewer than all values where they are sampled.
        clippable: False if the largest values are the model's result and must be kept.
        step: Distance of the levels that its values lie on, zero included; 0 if there are none.
    """

    name: str
    minimum: float
    maximum: float
    exponent: int
    counts: NDArray[np.int64]
    count: int
    clippable: bool = True
    step: float = 0.0

    @property
    def bin_width(self) -> float:
        """Return the width of a bin."""
        return math.ldexp(1.0, self.exponent) / BINS

    @property
    def centers(self) -> NDArray[np.float64]:
        """Return the centers of the bins, shape (2 * BINS,)."""
        return (np.arange(-BINS, BINS, dtype=np.float64) + 0.5) * self.bin_width


def exponent_of(minimum: float, maximum: float) -> int:
    """Return the smallest exponent e for which [-2^e, 2^e) contains both finite values."""
    largest = max(abs(minimum), abs(maximum))
    _, exponent = math.frexp(largest) if largest else (0.0, LOWEST_EXPONENT)  # frexp(0) gives 2^0
    return min(max(exponent, LOWEST_EXPONENT), HIGHEST_EXPONENT)


def defect(histogram: TensorHistogram) -> str:
    """Return why a tensor has no usable range; empty if it has one."""
    low, high = histogram.minimum, histogram.maximum
    if math.isnan(low) or math.isnan(high):
        return "it has NaN values"
    if math.isinf(low) or math.isinf(high):
        return "it has infinite values"
    largest = max(abs(low), abs(high))
    if largest >= math.ldexp(1.0, HIGHEST_EXPONENT):
        return f"its values reach {largest:g}"
    if largest < math.ldexp(1.0, LOWEST_EXPONENT):
        return "it is zero on every frame"
    if low == high:
        return f"it is {low:g} on every frame"
    return "" if histogram.count else "none of its values were counted"


def merge(first: TensorHistogram, second: TensorHistogram) -> TensorHistogram:
    """Return the sum of both histograms, at the wider of their ranges."""
    exponent = max(first.exponent, second.exponent)
    return TensorHistogram(
        name=first.name,
        minimum=float(np.minimum(first.minimum, second.minimum)),  # NaN stays NaN
        maximum=float(np.maximum(first.maximum, second.maximum)),
        exponent=exponent,
        counts=_coarsened(first, exponent) + _coarsened(second, exponent),
        count=first.count + second.count,
        clippable=first.clippable and second.clippable,
        step=first.step if first.step == second.step else 0.0,
    )


def to_arrays(histograms: Iterable[TensorHistogram]) -> dict[str, NDArray[Any]]:
    """Return histograms as plain arrays, one row per tensor, for an npz file."""
    rows = list(histograms)
    counts = np.stack([h.counts for h in rows]) if rows else np.zeros((0, 2 * BINS), np.int64)
    return {
        "name": np.array([h.name for h in rows], dtype=np.str_),
        "minimum": np.array([h.minimum for h in rows], dtype=np.float64),
        "maximum": np.array([h.maximum for h in rows], dtype=np.float64),
        "exponent": np.array([h.exponent for h in rows], dtype=np.int64),
        "clippable": np.array([h.clippable for h in rows], dtype=np.bool_),
        "step": np.array([h.step for h in rows], dtype=np.float64),
        "counts": counts,
    }


def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> tuple[TensorHistogram, ...]:
    """Return the histograms in arrays of `to_arrays`.

    Raises:
        CalibrationError: "damaged" if the arrays are invalid.
    """
    kinds = {
        "name": "U", "minimum": "f", "maximum": "f", "exponent": "i", "clippable": "b",
        "counts": "i",
    }  # fmt: skip
    wrong = [
        key for key, kind in kinds.items() if key not in arrays or arrays[key].dtype.kind != kind
    ]
    if wrong:
        raise CalibrationError(f"statistics lack {', '.join(wrong)}", code="damaged")
    counts = arrays["counts"]
    rows = len(arrays["name"])
    steps = arrays.get("step", np.zeros(rows))  # older files have none
    if steps.shape != (rows,) or steps.dtype.kind != "f" or not (steps >= 0).all():
        raise CalibrationError("statistics have invalid steps", code="damaged")
    shaped = counts.shape == (rows, 2 * BINS)
    if not shaped or any(arrays[key].shape != (rows,) for key in kinds if key != "counts"):
        raise CalibrationError(f"statistics have counts of shape {counts.shape}", code="damaged")
    exponents = arrays["exponent"]
    known = (exponents >= LOWEST_EXPONENT) & (exponents <= HIGHEST_EXPONENT)
    if rows and (counts.min() < 0 or not known.all()):
        raise CalibrationError("statistics have invalid counts or ranges", code="damaged")
    return tuple(
        TensorHistogram(
            name=str(arrays["name"][row]),
            minimum=float(arrays["minimum"][row]),
            maximum=float(arrays["maximum"][row]),
            exponent=int(exponents[row]),
            counts=counts[row].astype(np.int64, copy=False),
            count=int(counts[row].sum()),
            clippable=bool(arrays["clippable"][row]),
            step=float(steps[row]),
        )
        for row in range(rows)
    )


def _coarsened(histogram: TensorHistogram, exponent: int) -> NDArray[np.int64]:
    """Return the counts at a wider range: bin i is added to bin floor(i / 2^shift)."""
    shift = min(exponent - histogram.exponent, 62)
    if shift == 0:
        return histogram.counts
    target = (np.arange(-BINS, BINS) >> shift) + BINS
    counts = np.zeros(2 * BINS, dtype=np.int64)
    np.add.at(counts, target, histogram.counts)
    return counts
