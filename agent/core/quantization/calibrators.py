"""The calibrators: from a histogram to the range of an 8-bit tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import CalibrationError
from agent.core.quantization.histogram import BINS, TensorHistogram, defect

Range = tuple[float, float]

PERCENTILE = 99.99
"""Share of values kept, percent; the usual choice (Wu et al. 2020, arXiv:2004.09602, table 5)."""
SYMMETRIC_STEPS = 254
"""Steps of symmetric int8, -127..127."""
ASYMMETRIC_STEPS = 255
"""Steps of uint8, 0..255."""
_KL_LEVELS = 128
_KL_CANDIDATES = 128
_KL_KEPT = (
    0.99  # least share of values kept: more than 1 % are no outliers (a shifted ReLU's zeros)
)
_MSE_CANDIDATES = 64
_MSE_SMALLEST = 1 / 64  # of the largest magnitude; a step is then about one bin
_MSE_ROUNDS = 2
_CENTERED_GAIN = 1.2  # least gain in step size that is worth an added operator
_LEAST_PROBABILITY = 1e-10  # instead of 0 in a logarithm


def range_of(histogram: TensorHistogram, calibrator: str, symmetric: bool) -> Range:
    """Return the range (low, high) that quantization maps to its integers.

    Args:
        histogram: Of one tensor.
        calibrator: One of `CALIBRATORS`; a tensor that is not clippable gets minmax from all
            of them.
        symmetric: True for low = -high.

    Returns:
        low <= 0 <= high and low < high, so that zero is exact and the scale positive. The range is
        within that of the values and zero, mirrored if symmetric; but if all values are codes times
        a step, the step is the symmetric scale.

    Raises:
        CalibrationError: "no_range" if the tensor has no usable range; "unknown_calibrator".
    """
    reason = defect(histogram)
    if reason:
        raise CalibrationError(
            f"tensor {histogram.name}: {reason}",
            code="no_range",
            hint="look at the model's output on these frames, or capture others",
        )
    choose = CALIBRATOR_RANGES.get(calibrator)
    if choose is None:
        raise CalibrationError(
            f"no calibrator is called {calibrator}", code="unknown_calibrator",
            hint=f"use one of {', '.join(CALIBRATOR_RANGES)}",
        )  # fmt: skip
    if symmetric and _on_codes(histogram):
        largest = histogram.step * SYMMETRIC_STEPS / 2
        return -largest, largest
    widest = _full_range(histogram, symmetric)
    if not histogram.clippable:
        return widest
    low, high = choose(histogram, symmetric)
    low, high = max(low, widest[0]), min(high, widest[1])
    return (low, high) if low < high else widest


def center_of(histogram: TensorHistogram) -> float:
    """Return the value to subtract from a tensor before symmetric quantization; 0 for none.

    It is the middle of the asymmetric range, if asymmetric codes would have distinctly finer steps.
    """
    if defect(histogram):
        return 0.0
    low, high = range_of(histogram, "mse", symmetric=False)
    gain = 2 * max(-low, high) / (high - low)
    return (low + high) / 2 if gain > _CENTERED_GAIN else 0.0


def _on_codes(histogram: TensorHistogram) -> bool:
    """Return True if there is a step and all values are between -128 and 127 steps."""
    step = histogram.step
    return -128.5 * step <= histogram.minimum and histogram.maximum <= 127.5 * step and step > 0


def _full_range(histogram: TensorHistogram, symmetric: bool) -> Range:
    low, high = min(histogram.minimum, 0.0), max(histogram.maximum, 0.0)
    largest = max(-low, high)
    return (-largest, largest) if symmetric else (low, high)


def _percentile(histogram: TensorHistogram, symmetric: bool) -> Range:
    """Return the range of PERCENTILE of the values; an asymmetric one clips half at each end."""
    outside = 1 - PERCENTILE / 100
    if symmetric:
        kept = np.cumsum(_magnitudes(histogram))
        last = int(np.searchsorted(kept, (1 - outside) * histogram.count))
        high = (last + 1) * histogram.bin_width
        return -high, high
    below = np.cumsum(histogram.counts)
    first = int(np.searchsorted(below, outside / 2 * histogram.count, side="right"))
    last = int(np.searchsorted(below, (1 - outside / 2) * histogram.count))
    width = histogram.bin_width
    return min((first - BINS) * width, 0.0), max((last + 1 - BINS) * width, 0.0)


def _entropy(histogram: TensorHistogram, symmetric: bool) -> Range:
    """Return the range whose 128 levels lose the least information about the magnitudes.

    Source: S. Migacz, "8-bit Inference with TensorRT", GTC 2017: the threshold i with the
    smallest KL divergence between the first i bins (outliers added to the last) and their
    128-level copy. The bin at zero counts as its neighbour, since zeros are exact in any case
    (as in NVIDIA's pytorch-quantization, calib/histogram.py).
    """
    # A tensor of one sign uses all 256 codes for it.
    one_sided = not symmetric and (histogram.minimum >= 0 or histogram.maximum <= 0)
    levels = 2 * _KL_LEVELS if one_sided else _KL_LEVELS
    bins = _magnitudes(histogram).astype(np.float64)
    bins[0] = bins[1]
    filled = np.flatnonzero(bins)
    top = int(filled[-1]) + 1 if len(filled) else 0
    if top <= levels:
        return _full_range(histogram, symmetric)
    inside = np.cumsum(_magnitudes(histogram))  # zeros included
    smallest = max(levels, int(np.searchsorted(inside, _KL_KEPT * inside[-1])) + 1)
    candidates = np.unique(np.geomspace(smallest, top, _KL_CANDIDATES).round().astype(int))
    divergences = _divergences(bins[:top], candidates, levels)
    high = float(candidates[int(np.argmin(divergences))]) * histogram.bin_width
    return -high, high


def _divergences(
    bins: NDArray[np.float64], sizes: NDArray[np.int64], levels: int
) -> NDArray[np.float64]:
    """Return KL(P || Q) of the first bins and their copy at `levels` levels, for each size.

    Q is constant within a level, so sums over the bins of each level suffice, which are
    differences of running sums.

    Args:
        bins: Counts of magnitudes, with a positive sum.
        sizes: How many bins are inside; the others are added to the last one of them in P.
        levels: At most the smallest size.
    """
    edges = np.arange(levels + 1) * sizes[:, None] // levels
    inside = np.diff(_running(bins)[edges])
    last, total = bins[sizes - 1], bins.sum()
    outside = total - _running(bins)[sizes]
    filled = np.diff(_running(bins > 0)[edges])
    filled[:, -1] += (last == 0) & (outside > 0)
    p = inside.copy()
    p[:, -1] += outside
    q = inside / np.maximum(filled, 1) / np.maximum(inside.sum(axis=1, keepdims=True), 1)
    kept = _running(_x_log_x(bins))[sizes] - _x_log_x(last) + _x_log_x(last + outside)
    found = (kept - (p * np.log(np.maximum(q, _LEAST_PROBABILITY))).sum(axis=1)) / total
    return np.where(inside.any(axis=1), found - np.log(total), np.inf)


def _running(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the sums of the first 0, 1, 2 ... values."""
    return np.concatenate(([0.0], np.cumsum(values, dtype=np.float64)))


def _x_log_x(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return x log x, 0 at 0."""
    return x * np.log(np.maximum(x, 1))  # counts


def _mse(histogram: TensorHistogram, symmetric: bool) -> Range:
    """Return the range with the smallest mean squared error of 8 bits (grid search).

    Source: the MSE range setting of Nagel et al. 2021, arXiv:2106.08295, section 3.1.
    """
    low, high = _full_range(histogram, symmetric)
    kept = histogram.counts > 0
    shrink = np.geomspace(_MSE_SMALLEST, 1.0, _MSE_CANDIDATES)
    shrink[-1] = 1.0  # the full range is a candidate, so the result is never worse than minmax
    if symmetric or low == 0 or high == 0:
        return _least_error_range(histogram, [(low * s, high * s) for s in shrink], symmetric, kept)
    chosen = _least_error_range(histogram, [(low * s, high * s) for s in shrink], symmetric, kept)
    for _ in range(_MSE_ROUNDS):  # then each end on its own
        highs = [(chosen[0], high * s) for s in shrink]
        chosen = _least_error_range(histogram, [chosen, *highs], symmetric, kept)
        lows = [(low * s, chosen[1]) for s in shrink]
        chosen = _least_error_range(histogram, [chosen, *lows], symmetric, kept)
    return chosen


def _least_error_range(
    histogram: TensorHistogram, spans: list[Range], symmetric: bool, kept: NDArray[np.bool_]
) -> Range:
    return spans[int(np.argmin(_squared_errors(histogram, spans, symmetric, kept)))]


def _squared_errors(
    histogram: TensorHistogram, spans: list[Range], symmetric: bool, kept: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the mean squared error of 8 bits over each range, shape (len(spans),).

    The range is made to integers as ONNX Runtime does: scale = (high - low) / steps, zero
    point rounded, values rounded half to even and clipped; each bin stands at its center.
    """
    values = histogram.centers[kept]
    weights = histogram.counts[kept] / histogram.count
    steps = SYMMETRIC_STEPS if symmetric else ASYMMETRIC_STEPS
    errors = np.empty(len(spans))
    for index, (low, high) in enumerate(spans):
        scale = (high - low) / steps
        zero = steps / 2 if symmetric else np.rint(-low / scale)
        level = np.clip(np.rint(values / scale), -zero, steps - zero)
        errors[index] = weights @ np.square(values - level * scale)
    return errors


def _magnitudes(histogram: TensorHistogram) -> NDArray[np.int64]:
    """Return the counts of |value|, shape (BINS,), ascending from zero."""
    return histogram.counts[BINS:] + histogram.counts[:BINS][::-1]


CALIBRATOR_RANGES: dict[str, Callable[[TensorHistogram, bool], Range]] = {
    "minmax": _full_range,
    "entropy": _entropy,
    "percentile": _percentile,
    "mse": _mse,
}
