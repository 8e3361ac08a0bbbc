"""Whether two graphs compute the same outputs, but for rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.fidelity.channel_groups import channel_axis, like_magnitude
from agent.core.fidelity.rows import Outputs, match_rows
from agent.core.records import RankedRows

TOLERANCE = 2.0**-10
"""Of the largest magnitude of like channels, for the largest difference of graphs in float32.

Sums of K terms in another order differ by about sqrt(K) roundings of 2^-24, and L layers by sqrt(L)
times that: 2^-14 for 4,000 terms and 250 layers. Four bits more are for layers that amplify it. It is
float16's rounding too, so what is missed is less than the narrowest float precision changes.

Source: Higham, "Accuracy and Stability of Numerical Algorithms" (2002), sections 2.8 and 3.1.
"""

COARSE_TOLERANCE = 0.1
"""Of the RMS of like channels, for the RMS of the difference from a file that rounds by itself.

A file in half precision or of integers rounds between its layers where the graph in float32 does
not. On networks that amplify rounding single values then differ by a tenth of the largest.
"""

_UNDECIDED = 1e-4  # of the values: a class or mask that rounding decides


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much one output differs on one frame.

    Attributes:
        output: Its name.
        largest: The largest difference, in the output's unit, but for one value in 10,000.
        relative: What a tolerance is compared with; infinite if the outputs can't be compared by
            values.
        words: What differs then; else "".
    """

    output: str
    largest: float = 0.0
    relative: float = 0.0
    words: str = ""


def difference(
    expected: Outputs, seen: Outputs, ranked: Sequence[RankedRows], *, coarse: bool = False
) -> Difference:
    """Return the difference of the output that differs most, on one frame.

    Args:
        expected: The outputs that are right.
        seen: Those to be checked, by the same names.
        ranked: Outputs with rows that are matched first.
        coarse: False to compare the largest difference with `TOLERANCE`; True to compare the RMS
            with `COARSE_TOLERANCE`, and to accept finite values where `expected` overflows.
    """
    for name, values in expected.items():
        rows = next((one.axes[name] for one in ranked if name in one.axes), None)
        words = _mismatch(values, seen.get(name), rows)
        if words:
            return Difference(output=name, relative=np.inf, words=words)
    finite = [
        rows
        for rows in ranked
        if all(np.isfinite(side[name]).all() for name in rows.axes for side in (expected, seen))
    ]
    first, second = match_rows(expected, seen, finite)
    found = [_difference(name, first[name], second[name], coarse=coarse) for name in expected]
    return max(found, key=lambda one: one.relative, default=Difference(output=""))


def _mismatch(expected: NDArray[Any], seen: NDArray[Any] | None, rows: int | None) -> str:
    """Return why two outputs can't be compared by values; "" if they can."""
    if seen is None:
        return "is missing"
    if seen.dtype != expected.dtype:
        return f"is of {seen.dtype}, not {expected.dtype}"
    shapes = [list(values.shape) for values in (expected, seen)]
    sides = [[side for axis, side in enumerate(shape) if axis != rows] for shape in shapes]
    if len(shapes[0]) != len(shapes[1]) or sides[0] != sides[1]:
        return f"has shape {shapes[1]}, not {shapes[0]}"
    return ""


def _difference(
    name: str, expected: NDArray[Any], seen: NDArray[Any], *, coarse: bool
) -> Difference:
    if expected.shape != seen.shape:
        return Difference(output=name, relative=np.inf, words="has another number of rows")
    if expected.dtype.kind != "f":
        return _exact(name, expected, seen, coarse=coarse)
    reference, found = expected.astype(np.float64), seen.astype(np.float64)
    known, other = np.isfinite(reference), np.isfinite(found)
    same = (reference == found) | (np.isnan(reference) & np.isnan(found))
    if not ((known & other) | same | (~known & other & coarse)).all():
        return Difference(output=name, relative=np.inf, words="has other NaN or infinite values")
    compared = known & other & ~same
    apart = np.abs(np.where(compared, reference, 0.0) - np.where(compared, found, 0.0))
    reference[~known] = 0.0
    relative = max(_relative(reference, apart, coarse=coarse), default=0.0)
    return Difference(output=name, largest=_largest(apart), relative=relative)


def _exact(name: str, expected: NDArray[Any], seen: NDArray[Any], *, coarse: bool) -> Difference:
    """Compare integers, truth values or text."""
    unequal = np.asarray(expected != seen)
    share = float(unequal.mean()) if unequal.size else 0.0
    if share <= _UNDECIDED or (coarse and share <= COARSE_TOLERANCE):
        return Difference(output=name)
    words = f"differs in {np.count_nonzero(unequal)} of {unequal.size} values"
    return Difference(output=name, relative=np.inf, words=words)


def _relative(
    reference: NDArray[np.float64], apart: NDArray[np.float64], *, coarse: bool
) -> list[float]:
    """Return the difference of each group of channels, relative to its magnitude."""
    axis = channel_axis(reference.shape)
    axes = (1, reference.size) if axis is None else (reference.shape[axis], -1)
    if not reference.size:
        return []
    values, noise = (
        np.moveaxis(one, axis or 0, 0).reshape(axes) if one.ndim else one.reshape(1, 1)
        for one in (reference, apart)
    )
    rms = np.sqrt(np.square(values).mean(axis=1))
    found = []
    for group in like_magnitude(rms, values.min(axis=1), values.max(axis=1)):
        if coarse:
            signal, error = np.square(values[group]).mean(), np.square(noise[group]).mean()
            found.append(float(np.sqrt(error / signal if signal else error)))
        else:
            scale = float(np.abs(values[group]).max()) or 1.0
            found.append(_largest(noise[group]) / scale)
    return found


def _largest(values: NDArray[np.float64]) -> float:
    """Return the largest value but for one in 10,000."""
    flat = values.ravel()
    if not flat.size:
        return 0.0
    place = flat.size - 1 - int(_UNDECIDED * flat.size)
    return float(np.partition(flat, place)[place])
