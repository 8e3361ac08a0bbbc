"""What rounding explains is the same; anything else is a difference with its output's name."""

from __future__ import annotations

import numpy as np
import pytest

from agent.core.fidelity.sameness import COARSE_TOLERANCE, TOLERANCE, difference
from agent.core.records import RankedRows

RNG = np.random.default_rng(4)
HEAD = np.concatenate([RNG.uniform(0, 640, (1, 4, 500)), RNG.uniform(0, 1, (1, 8, 500))], axis=1)
HEAD = HEAD.astype(np.float32)


def changed(values, where, by):
    found = values.copy()
    found[where] += by
    return found


def relative(expected, seen, ranked=(), **how):
    return difference({"y": expected}, {"y": seen}, ranked, **how).relative


def test_float32_noise_is_no_difference():
    noise = 1 + 1e-6 * RNG.standard_normal(HEAD.shape)
    found = difference({"y": HEAD}, {"y": (HEAD * noise).astype(np.float32)}, ())
    assert 0 < found.relative < TOLERANCE / 100
    assert (found.output, found.words) == ("y", "")
    assert found.largest == pytest.approx(640 * found.relative, rel=0.5)
    assert relative(HEAD, HEAD) == 0


@pytest.mark.parametrize("channel", [0, 7])
def test_scores_are_measured_by_scores_and_boxes_by_boxes(channel):
    """A hundredth of a score is nothing beside pixels, and much among scores."""
    by = 0.01 * np.abs(HEAD[:, channel]).max()
    assert relative(HEAD, changed(HEAD, (0, channel, slice(None)), by)) == pytest.approx(
        0.01, rel=0.1
    )


def test_the_output_that_differs_most_is_named():
    outputs = {"a": HEAD, "b": HEAD[:, 4:], "c": HEAD[0, 0]}
    seen = outputs | {"a": HEAD * 1.001, "b": HEAD[:, 4:] * 1.1}
    assert difference(outputs, seen, ()).output == "b"


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({}, "is missing"),
        ({"y": np.zeros((1, 2), np.float64)}, "is of float64, not float32"),
        ({"y": np.zeros((1, 3), np.float32)}, "has shape [1, 3], not [1, 2]"),
        ({"y": np.zeros((2,), np.float32)}, "has shape [2], not [1, 2]"),
        ({"y": np.array([[0, np.nan]], np.float32)}, "has other NaN or infinite values"),
    ],
)
def test_what_can_not_be_compared_by_values_differs(seen, words):
    found = difference({"y": np.zeros((1, 2), np.float32)}, seen, ())
    assert (found.output, found.relative, found.words) == ("y", np.inf, words)


def test_equal_values_that_are_not_finite_are_the_same():
    values = np.array([1.0, np.nan, np.inf, -np.inf], np.float32)
    assert relative(values, values.copy()) == 0
    assert relative(values, np.array([1, np.nan, -np.inf, -np.inf], np.float32)) == np.inf
    wide = np.array([1, 2, 1e5, -1e5], np.float32)  # what overflows in half precision does not here
    assert relative(values, wide, coarse=True) == 0
    assert relative(wide, values, coarse=True) == np.inf


def test_a_class_map_may_differ_where_rounding_decides_and_nowhere_else():
    classes = RNG.integers(0, 5, (1, 200, 200))
    assert relative(classes, changed(classes, (0, 3, slice(0, 4)), 1)) == 0
    border = difference({"y": classes}, {"y": changed(classes, (0, slice(None), 199), 1)}, ())
    assert (border.relative, border.words) == (np.inf, "differs in 200 of 40000 values")
    assert relative(np.array([3]), np.array([4])) == np.inf
    assert relative(classes, changed(classes, (0, slice(None), slice(0, 9)), 1), coarse=True) == 0
    assert relative(classes, changed(classes, (0, slice(None), slice(0, 30)), 1), coarse=True) > 1


def test_a_file_that_rounds_by_itself_is_compared_by_its_rms():
    outlier = changed(HEAD, (0, 5, 7), 0.5)
    assert relative(HEAD, outlier, coarse=True) < COARSE_TOLERANCE
    wrong = changed(HEAD, (0, slice(4, 8)), 0.3)
    assert relative(HEAD, wrong, coarse=True) > COARSE_TOLERANCE


def test_rows_are_matched_and_each_of_them_counts():
    ranked = (RankedRows(axes={"y": 1}, count=None),)
    rows = HEAD[:, :6].transpose(0, 2, 1)[:, :40]
    order = RNG.permutation(40)
    assert relative(rows, rows[:, order], ranked) == 0
    assert relative(rows, rows[:, order]) > 0.1
    assert relative(rows, rows[:, order[1:]], ranked) > 0.1
    assert relative(rows[:, :0], rows[:, :0], ranked) == 0
    with_nan = rows.copy()
    with_nan[0, 0, 0] = np.nan
    assert relative(with_nan, with_nan, ranked) == 0
    assert relative(with_nan, rows[:, :20], ranked) == np.inf


@pytest.mark.parametrize(
    "values", [np.float32(2), np.zeros((0, 4), np.float32), np.zeros(3, np.float32)]
)
def test_outputs_of_any_shape_are_compared(values):
    values = np.asarray(values)
    assert relative(values, values.copy()) == 0
    if values.size:
        assert relative(values, values + np.float32(0.1)) > TOLERANCE
