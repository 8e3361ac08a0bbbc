"""Weights rounded for the output of their layer: never worse than each by itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.core.quantization import weight_rounding
from agent.core.quantization.weight_rounding import _DAMPING, _SWEEPS


def error(codes, weights, scales, moment) -> NDArray[np.float64]:
    """Return e^T M e of each row."""
    off = codes * scales[:, None] - weights
    return np.einsum("ok,kl,ol->o", off, moment, off)


def round_weights(weights, scales, moment) -> NDArray[np.float64]:
    """Round the rows of one group."""
    return weight_rounding.round_weights(weights[None], scales[None], moment[None])[0]


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


def one_by_one(weights, scales, moment) -> NDArray[np.float64]:
    """Descend as the definition has it: one weight of one row after another."""
    exact = weights / scales[:, None]
    codes = np.clip(np.rint(exact), -127, 127)
    damped = moment + np.eye(len(moment)) * (_DAMPING * np.trace(moment) / len(moment))
    for row, wanted in zip(codes, exact, strict=True):
        for _ in range(_SWEEPS):
            before = row.copy()
            for k in np.argsort(-np.diag(damped), kind="stable"):
                if k != np.abs(wanted).argmax():
                    slope = (row - wanted) @ damped[k]
                    row[k] = np.clip(np.rint(row[k] - slope / damped[k, k]), -127, 127)
            if np.array_equal(row, before):
                break
    return codes


@given(
    seed=st.integers(0, 10_000),
    groups=st.integers(1, 4),
    rows=st.integers(1, 3),
    size=st.integers(1, 70),
)
def test_groups_that_descend_together_get_the_codes_of_each_weight_by_itself(
    seed, groups, rows, size
):
    layers = [layer(seed + group, rows, size, 3.0 * group) for group in range(groups)]
    weights, scales, moments = (np.stack(part) for part in zip(*layers, strict=True))
    moments[0] *= np.nan if seed % 5 == 0 else 1
    found = weight_rounding.round_weights(weights, scales, moments)
    for codes, one in zip(found, zip(weights, scales, moments, strict=True), strict=True):
        expected = (
            one_by_one(*one) if np.isfinite(one[2]).all() else np.rint(one[0] / one[1][:, None])
        )
        assert np.array_equal(codes, expected)
