"""Scales, zero points and INT8 codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_TINY = float(np.finfo(np.float32).tiny)
_BIAS_STEPS = float(2 * np.iinfo(np.int32).max)
_BIAS_MARGIN = 1.0001  # so that rounding keeps a bias inside int32

Floats = NDArray[np.float32]


def scales_and_zeros(
    low: NDArray[Any], high: NDArray[Any], *, symmetric: bool
) -> tuple[Floats, NDArray[np.int64]]:
    """Return the scale and zero point of each range; a range of nothing has scale 1.

    Args:
        low: Smallest values, float32, any shape.
        high: Largest values, of the same shape.
        symmetric: True for codes -127 to 127 around zero, False for 0 to 255.
    """
    low = np.minimum(low, 0).astype(np.float64)
    high = np.maximum(high, 0).astype(np.float64)
    if symmetric:
        high = np.maximum(-low, high)
        low = -high
    scale = (high - low) / (254 if symmetric else 255)
    dead = scale < _TINY
    scale = np.where(dead, 1, scale)
    zeros = 0 * low if symmetric else np.where(dead, 0, np.round(-low / scale))
    return scale.astype(np.float32), zeros.astype(np.int64)


def spans(values: Floats, axis: int | None) -> tuple[Floats, Floats]:
    """Return the smallest and the largest value, with an axis those of each channel."""
    if not values.size:
        none = np.zeros(() if axis is None else values.shape[axis], np.float32)
        return none, none
    first = values if not axis else np.moveaxis(values, axis, 0)
    rows = first.reshape(-1 if axis is None else (len(first), -1))
    return rows.min(axis=-1), rows.max(axis=-1)


def codes_of(values: Floats, scale: Floats, zero: NDArray[np.int64], axis: int | None) -> Floats:
    """Return the codes of values as float32, not limited to the range of an integer."""
    if axis is not None:
        sides = [-1 if side == axis else 1 for side in range(values.ndim)]
        scale, zero = scale.reshape(sides), zero.reshape(sides)
    codes: Floats = np.rint(values / scale)
    codes += zero.astype(np.float32)
    return codes


def fit_to_bias(scale: Floats, input_scale: float, bias: Floats) -> Floats:
    """Return the weight scales, larger where the int32 codes of the bias would overflow.

    Args:
        scale: Of the weights, shape () or (channels,).
        input_scale: Of the layer's input; a code of the bias is a product of both scales.
        bias: Shape (channels,).
    """
    each = np.abs(bias).reshape(-1) if scale.ndim else np.abs(bias).max(initial=0).astype(float)
    least = _BIAS_MARGIN * (2 * each) / _BIAS_STEPS
    wide = scale.astype(np.float64)
    step = wide * input_scale
    small = (step < least) & (step > 0)
    return np.where(small, wide * (least / np.where(small, step, 1)), wide).astype(np.float32)


def bias_codes(bias: Floats, scale: Floats) -> NDArray[np.int32]:
    """Return the int32 codes of a bias, shape as the bias, for scales () or (channels,)."""
    limits = np.iinfo(np.int32)
    codes = np.round(bias.astype(np.float64).reshape(-1) / scale.astype(np.float64))
    return np.clip(codes, limits.min, limits.max).astype(np.int32).reshape(bias.shape)
