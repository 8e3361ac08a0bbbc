"""Weights rounded for the output of their layer: never worse than each by itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.core.quantization.weight_rounding import _DAMPING, round_weights


def error(codes, weights, scales, moment) -> NDArray[np.float64]:
    """Return e^T M e of each row."""
    off = codes * scales[:, None] - weights
    return np.einsum("ok,kl,ol->o", off, moment, off)


def layer(seed: int, rows: int, size: int, mean: float):
    """Return weights, scales and the second moment of inputs that have a common mean."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((rows, size))
    inputs = mean + rng.standard_normal((4 * size, size)) @ rng.standard_normal((size, size))
    return weights, np.abs(weights).max(axis=1) / 127, inputs.T @ inputs / len(inputs)


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 6),
    size=st.integers(1, 80),
    mean=st.floats(0, 30),
)
def test_the_error_is_never_more_than_that_of_the_nearest_integers(seed, rows, size, mean):
    weights, scales, moment = layer(seed, rows, size, mean)
    codes = round_weights(weights, scales, moment)
    nearest = np.rint(weights / scales[:, None])
    assert np.array_equal(codes, np.rint(codes))
    assert np.abs(codes).max() <= 127
    damped = moment + np.eye(size) * (_DAMPING * np.trace(moment) / size)
    before, after = (error(c, weights, scales, damped) for c in (nearest, codes))
    assert (after <= before * (1 + 1e-9) + 1e-12).all()


@given(seed=st.integers(0, 10_000), size=st.integers(1, 30))
def test_independent_inputs_ask_for_the_nearest_integers(seed, size):
    weights, scales, _ = layer(seed, 3, size, 0)
    codes = round_weights(weights, scales, np.eye(size))
    assert np.array_equal(codes, np.rint(weights / scales[:, None]))


def test_errors_of_inputs_that_move_together_cancel():
    weights, scales, _ = layer(0, 20, 9, 0)
    moment = np.ones((9, 9)) + 1e-3 * np.eye(9)
    codes = round_weights(weights, scales, moment)
    sums = (codes * scales[:, None] - weights).sum(axis=1) / scales
    assert (np.abs(sums) <= 0.51).all()
    nearest = np.rint(weights / scales[:, None]) * scales[:, None] - weights
    assert np.abs(nearest.sum(axis=1) / scales).max() > 1


def test_the_weight_that_defines_the_scale_stays():
    weights, scales, moment = layer(1, 8, 9, 20)
    codes = round_weights(weights, scales, moment)
    largest = np.abs(weights).argmax(axis=1)
    assert (np.abs(codes[np.arange(8), largest]) == 127).all()


def test_an_empty_moment_leaves_the_nearest_integers():
    weights, scales, moment = layer(2, 3, 5, 0)
    for useless in (moment * np.nan, moment * 0, moment * np.inf):
        codes = round_weights(weights, scales, useless)
        assert np.array_equal(codes, np.rint(weights / scales[:, None]))
