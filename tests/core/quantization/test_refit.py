"""Weights solved once more for inputs that INT8 changed: only what repeats on other frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.quantization.refit import InputOutputMoments, refitted

GROUPS, ROWS, SIZE = 2, 3, 8


def sample(seed: int, positions: int, weights, change):
    """Return (inputs in INT8, outputs in FP32)."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((GROUPS, SIZE, SIZE))
    exact = 5 + np.matmul(mixing, rng.standard_normal((GROUPS, SIZE, positions)))
    return change(exact, rng).astype(np.float32), np.matmul(weights, exact).astype(np.float32)


def halves_of(count: int, weights, change):
    found = []
    for seed in range(2):
        inputs, outputs = sample(seed, count, weights, change)
        found.append(
            found[0].empty() if found else InputOutputMoments.around_means(inputs, outputs)
        )
        found[-1].add(inputs, outputs)
    return tuple(found)


def error(weights, bias, pair):
    inputs, outputs = pair
    return float(np.square(np.matmul(weights, inputs) + bias[..., None] - outputs).mean())


def given_weights():
    return np.random.default_rng(7).standard_normal((GROUPS, ROWS, SIZE)).astype(np.float32)


def test_an_error_that_repeats_is_undone_with_its_mean():
    """Inputs that shrank by a tenth and moved: on other frames nearly nothing of it is left."""
    weights = given_weights()

    def shrink(exact, rng):
        return 0.9 * exact + 0.3 + 0.01 * rng.standard_normal(exact.shape)

    halves = halves_of(500, weights, shrink)
    found = refitted(weights, halves)
    other = sample(5, 500, weights, shrink)
    before = error(weights, halves[0].bias(weights), other)
    assert halves[0].count == 1000
    assert error(found, halves[0].bias(found), other) < before / 20


@given(st.integers(SIZE, 40))
def test_errors_that_do_not_repeat_are_hardly_fitted(count):
    """As many positions as weights: a fixed ridge of 0.01 would double the error here."""
    weights = given_weights()

    def blur(exact, rng):
        return exact + rng.standard_normal(exact.shape) / 50

    found = refitted(weights, halves_of(count, weights, blur))
    other = sample(5, 2000, weights, blur)
    assert error(found, _best_bias(found, other), other) < 1.1 * error(
        weights, _best_bias(weights, other), other
    )


def _best_bias(weights, pair):
    inputs, outputs = pair
    return (outputs - np.matmul(weights, inputs)).mean(axis=2)


def test_exact_inputs_change_nothing():
    weights = given_weights()
    found = refitted(weights, halves_of(50, weights, lambda exact, _: exact))
    np.testing.assert_allclose(found, weights, atol=1e-3)


@pytest.mark.parametrize("constant", [0.0, 3.0])
def test_inputs_without_variance_leave_the_weights(constant):
    weights = given_weights()
    halves = halves_of(20, weights, lambda exact, _: np.full_like(exact, constant))
    found = refitted(weights, halves)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, weights, atol=1e-3)
