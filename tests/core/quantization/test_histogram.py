"""Histograms merge exactly and every calibrator gives a usable range."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agent.core.errors import CalibrationError
from agent.core.quantization.calibrator_names import CALIBRATORS
from agent.core.quantization.calibrators import (
    CALIBRATOR_RANGES,
    _divergences,
    center_of,
    range_of,
)
from agent.core.quantization.histogram import (
    BINS,
    TensorHistogram,
    defect,
    exponent_of,
    from_arrays,
    merge,
    to_arrays,
)

values = hnp.arrays(
    np.float32, st.integers(2, 300), elements=st.floats(-1e6, 1e6, width=32, allow_nan=False)
)


def counted(array: np.ndarray, exponent: int | None = None) -> TensorHistogram:
    """Count by definition: bin = floor(value / width)."""
    low, high = float(array.min()), float(array.max())
    exponent = exponent_of(low, high) if exponent is None else exponent
    width = math.ldexp(1.0, exponent) / BINS
    index = np.floor(array.astype(np.float64) / width).astype(np.int64) + BINS
    counts = np.bincount(index.ravel(), minlength=2 * BINS)
    assert len(counts) == 2 * BINS
    return TensorHistogram(
        name="t", minimum=low, maximum=high, exponent=exponent, counts=counts, count=array.size
    )


def test_every_calibrator_has_its_function():
    assert tuple(CALIBRATOR_RANGES) == tuple(CALIBRATORS)


def heavy_tail() -> np.ndarray:
    rng = np.random.default_rng(1)
    body = rng.standard_normal(200_000)
    return np.concatenate([body, [60.0, -55.0, 58.0]]).astype(np.float32)


@given(values, values)
def test_merging_parts_equals_counting_the_whole(first, second):
    merged = merge(counted(first), counted(second))
    whole = counted(np.concatenate([first, second]))
    assert (merged.minimum, merged.maximum) == (whole.minimum, whole.maximum)
    assert merged.exponent == whole.exponent
    assert merged.count == whole.count == merged.counts.sum()
    np.testing.assert_array_equal(merged.counts, whole.counts)


@given(values, values)
def test_merging_is_the_same_in_either_order(first, second):
    one, other = merge(counted(first), counted(second)), merge(counted(second), counted(first))
    np.testing.assert_array_equal(one.counts, other.counts)


@given(values, values)
def test_more_frames_never_shrink_the_minmax_range(first, second):
    before, both = counted(first), merge(counted(first), counted(second))
    if defect(before):
        return
    low, high = range_of(before, "minmax", False)
    wider = range_of(both, "minmax", False)
    assert wider[0] <= low
    assert wider[1] >= high


@settings(max_examples=40)
@given(values, st.sampled_from(list(CALIBRATORS)), st.booleans())
def test_every_range_is_usable(array, calibrator, symmetric):
    histogram = counted(array)
    if defect(histogram):
        with pytest.raises(CalibrationError, match="tensor t"):
            range_of(histogram, calibrator, symmetric)
        return
    low, high = range_of(histogram, calibrator, symmetric)
    scale = np.float32((high - low) / 255)
    assert np.isfinite(scale)
    assert scale > 0
    assert low <= 0 <= high
    if symmetric:
        assert low == -high
        assert high <= max(abs(histogram.minimum), abs(histogram.maximum))
    else:
        assert min(histogram.minimum, 0) <= low
        assert high <= max(histogram.maximum, 0)


def quantization_error(values, weights, low, high, symmetric):
    scale = (high - low) / (254 if symmetric else 255)
    zero = 0 if symmetric else np.rint(-low / scale)
    least, most = (-127, 127) if symmetric else (0, 255)
    level = np.clip(np.rint(values / scale) + zero, least, most)
    return float(np.average(np.square(values - (level - zero) * scale), weights=weights))


@settings(max_examples=40)
@given(values, st.booleans())
def test_mse_is_never_worse_than_minmax(array, symmetric):
    histogram = counted(array)
    if defect(histogram):
        return

    def error(calibrator: str) -> float:
        low, high = range_of(histogram, calibrator, symmetric)
        return quantization_error(histogram.centers, histogram.counts, low, high, symmetric)

    assert error("mse") <= error("minmax") * (1 + 1e-12)


@pytest.mark.parametrize("symmetric", [True, False])
def test_mse_beats_minmax_on_a_heavy_tail_by_real_rounding(symmetric):
    array = heavy_tail()
    histogram = counted(array)

    def error(calibrator: str) -> float:
        low, high = range_of(histogram, calibrator, symmetric)
        return quantization_error(array, np.ones_like(array), low, high, symmetric)

    assert error("mse") < 0.75 * error("minmax")


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("calibrator", ["entropy", "percentile"])
def test_a_heavy_tail_is_clipped(calibrator, symmetric):
    low, high = range_of(counted(heavy_tail()), calibrator, symmetric)
    assert 2 < high < 12
    assert -12 < low < -2


def test_percentile_keeps_its_share():
    array = np.random.default_rng(0).standard_normal(400_000).astype(np.float32)
    low, high = range_of(counted(array), "percentile", False)
    assert np.mean((array < low) | (array > high)) == pytest.approx(1e-4, rel=0.35)
    assert high == pytest.approx(3.89, abs=0.15)  # two-sided 99.99 % of a normal distribution


def test_entropy_keeps_a_uniform_tensor_whole():
    array = np.random.default_rng(0).uniform(-1, 1, 400_000).astype(np.float32)
    low, high = range_of(counted(array), "entropy", True)
    assert high > 0.93
    assert low == -high


def test_many_zeros_of_a_relu_do_not_move_the_entropy_threshold():
    positive = np.abs(np.random.default_rng(0).standard_normal(100_000)).astype(np.float32)
    many_zeros = np.concatenate([positive, np.zeros(900_000, np.float32)])
    assert range_of(counted(many_zeros), "entropy", False) == pytest.approx(
        range_of(counted(positive), "entropy", False), rel=0.05
    )


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_the_zeros_of_a_centered_relu_are_not_clipped(calibrator):
    """Nearly all of its values lie at one end: they are no outliers, whatever the rest says."""
    rng = np.random.default_rng(0)
    tail = np.where(rng.random(200_000) < 0.95, 0, rng.exponential(0.3, 200_000))
    array = np.minimum(tail, 6) - 3
    low, _ = range_of(counted(array.astype(np.float32)), calibrator, symmetric=True)
    assert low <= -2.9


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_what_must_not_be_clipped_is_not(calibrator):
    histogram = replace(counted(heavy_tail()), clippable=False)
    assert range_of(histogram, calibrator, False) == (-55.0, 60.0)


@pytest.mark.parametrize(
    ("minimum", "maximum", "word"),
    [
        (math.nan, math.nan, "NaN"),
        (0.0, math.inf, "infinite"),
        (-math.inf, 1.0, "infinite"),
        (0.0, 0.0, "zero"),
        (-1e-30, 1e-30, "zero"),
        (3.0, 3.0, "3 on every frame"),
        (0.0, 3e38, "reach"),
    ],
)
@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_what_makes_no_scale_is_an_error_that_names_the_tensor(minimum, maximum, word, calibrator):
    histogram = replace(counted(np.ones(4, np.float32)), minimum=minimum, maximum=maximum)
    with pytest.raises(CalibrationError, match=word) as caught:
        range_of(histogram, calibrator, True)
    assert "tensor t" in caught.value.message
    assert caught.value.code == "no_range"


def test_nan_stays_after_merging():
    sound = counted(np.ones(4, np.float32))
    broken = replace(sound, minimum=math.nan, maximum=math.nan)
    assert defect(merge(sound, broken)) == defect(merge(broken, sound)) == "it has NaN values"


@given(values)
def test_what_is_moved_to_its_center_has_finer_steps(array):
    histogram = counted(array)
    center = center_of(histogram)
    assert min(histogram.minimum, 0) <= center <= max(histogram.maximum, 0)
    if center and not defect(histogram):
        low, high = range_of(histogram, "mse", symmetric=False)
        assert (high - low) * 1.2 < 2 * max(-low, high)
        assert center == pytest.approx((low + high) / 2)


def test_the_center_of_a_relu_is_its_middle_and_of_a_bell_nothing():
    bell = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    assert center_of(counted(bell)) == 0
    clipped = np.clip(3 + 3 * bell, 0, 6)
    assert center_of(counted(clipped)) == pytest.approx(3, rel=0.02)
    assert center_of(replace(counted(clipped), maximum=math.inf)) == 0


def test_an_unknown_calibrator_is_refused():
    with pytest.raises(CalibrationError) as caught:
        range_of(counted(heavy_tail()), "guess", True)
    assert caught.value.code == "unknown_calibrator"


@given(values)
def test_stored_histograms_come_back(array):
    first = replace(counted(array), name="a/ü", clippable=False)
    (second,) = from_arrays(to_arrays([first]))
    assert (second.name, second.minimum, second.maximum) == ("a/ü", first.minimum, first.maximum)
    assert (second.exponent, second.count) == (first.exponent, first.count)
    assert second.clippable is False
    np.testing.assert_array_equal(second.counts, first.counts)


def test_files_of_older_versions_know_no_steps():
    arrays = to_arrays([replace(counted(np.arange(3, dtype=np.float32)), step=1.0)])
    assert from_arrays(arrays)[0].step == 1.0
    del arrays["step"]
    assert from_arrays(arrays)[0].step == 0.0


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_a_step_is_the_scale_as_long_as_all_values_are_codes(calibrator):
    known = replace(counted(np.arange(-128, 120, dtype=np.float32)), step=1.0)
    assert range_of(known, calibrator, symmetric=True) == (-127.0, 127.0)
    unlike = replace(counted(np.arange(-128, 120, dtype=np.float32)), step=0.5)
    beyond = merge(known, replace(counted(np.array([0, 300], np.float32)), step=1.0))
    for one in (unlike, beyond, merge(known, unlike)):
        without = range_of(replace(one, step=0.0), calibrator, symmetric=True)
        assert range_of(one, calibrator, symmetric=True) == without
    without = range_of(replace(known, step=0.0), calibrator, symmetric=False)
    assert range_of(known, calibrator, symmetric=False) == without


def test_no_histograms_come_back_too():
    assert from_arrays(to_arrays([])) == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("counts", np.zeros((1, 7), np.int64)),
        ("counts", np.full((1, 2 * BINS), -1, np.int64)),
        ("counts", np.zeros((1, 2 * BINS), np.float32)),
        ("exponent", np.array([4000])),
        ("minimum", np.array([0.0, 1.0])),
        ("name", np.array([1])),
        ("step", np.array([])),
        ("step", np.array([-1.0])),
        ("step", np.array([np.nan])),
    ],
)
def test_damaged_arrays_are_refused(key, value):
    arrays = to_arrays([counted(np.ones(4, np.float32))])
    with pytest.raises(CalibrationError) as caught:
        from_arrays({**arrays, key: value})
    assert caught.value.code == "damaged"


def divergence(bins: np.ndarray, size: int, levels: int) -> float:
    """Return KL(P || Q) by definition, bin by bin."""
    p = bins[:size].astype(np.float64)
    p[-1] += bins[size:].sum()
    q = np.zeros(size)
    for level in range(levels):
        part = slice(level * size // levels, (level + 1) * size // levels)
        q[part] = bins[part].sum() / max(np.count_nonzero(p[part]), 1)
    seen = p > 0
    if not q[seen].sum():
        return math.inf
    p, q = p[seen] / p.sum(), np.maximum(q[seen] / q[seen].sum(), 1e-10)
    return float((p * np.log(p / q)).sum())


@given(
    bins=hnp.arrays(np.int64, st.integers(9, 60), elements=st.sampled_from([0, 0, 1, 7, 40_000])),
    levels=st.integers(2, 8),
)
def test_the_divergences_of_all_ranges_are_those_of_the_definition(bins, levels):
    bins[-1] += 1  # the last one is filled
    sizes = np.arange(levels, len(bins) + 1)
    found = _divergences(bins.astype(np.float64), sizes, levels)
    expected = [divergence(bins, int(size), levels) for size in sizes]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
