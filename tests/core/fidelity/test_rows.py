"""Rows in an order of the model's own are paired with their like, and garbage is found out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.errors import RunnerError
from agent.core.fidelity.comparison import Comparison
from agent.core.records import RankedRows

AXES = {"boxes": 1, "scores": 1, "labels": 1}
FIXED = (RankedRows(axes=AXES, count=100),)
VARYING = (RankedRows(axes=AXES, count=None),)


def detections(rows=100, seed=0, side=640):
    """Return outputs of a detector, best first: corners in pixels, scores and class ids."""
    source = np.random.default_rng(seed)
    centers, sizes = source.uniform(0, side, (rows, 2)), source.uniform(8, side / 4, (rows, 2))
    return {
        "boxes": np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1)[None],
        "scores": np.sort(source.uniform(0.3, 0.95, rows))[::-1][None],
        "labels": source.integers(0, 80, (1, rows)),
    }


def noisy(outputs, relative, seed=1):
    """Return outputs of an engine with noise of an amplitude relative to each output's RMS."""
    source = np.random.default_rng(seed)
    found = dict(outputs)
    for name in ("boxes", "scores"):
        values = outputs[name]
        rms = np.sqrt(np.mean(np.square(values)))
        found[name] = values + relative * rms * source.standard_normal(values.shape)
    return found


def rows_of(outputs, which):
    return {name: values[:, which] for name, values in outputs.items()}


def sorted_again(outputs):
    return rows_of(outputs, np.argsort(-outputs["scores"][0], kind="stable"))


def sqnr_db(expected, seen, ranked=FIXED):
    comparison = Comparison("generic", ranked=ranked)
    comparison.add(expected, seen)
    found = comparison.result()
    return np.inf if found.sqnr_db is None else found.sqnr_db


@given(rows=st.integers(2, 60), seed=st.integers(0, 99), fixed=st.booleans())
def test_the_order_of_rows_changes_nothing(rows, seed, fixed):
    ranked = FIXED if fixed else VARYING
    expected = detections(rows, seed)
    order = np.random.default_rng(seed).permutation(rows)
    assert sqnr_db(expected, rows_of(expected, order), ranked) == np.inf
    seen = noisy(expected, 1e-3)
    before = sqnr_db(expected, seen, ranked)
    assert before == pytest.approx(sqnr_db(expected, rows_of(seen, order), ranked), abs=1e-6)


@pytest.mark.parametrize("ranked", [FIXED, VARYING])
@pytest.mark.parametrize("decibels", [26, 40, 60])
def test_noise_counts_as_it_would_in_order(ranked, decibels):
    """Also where it changes the order of the scores."""
    expected = detections()
    seen = noisy(expected, 10 ** (-decibels / 20))
    assert sqnr_db(expected, seen, ()) == pytest.approx(decibels, abs=1)
    if decibels < 60:
        assert sqnr_db(expected, sorted_again(seen), ()) < 15
    assert sqnr_db(expected, sorted_again(seen), ranked) == pytest.approx(decibels, abs=1.5)


def test_all_outputs_of_an_order_are_paired_by_one_assignment():
    """The right boxes with another order of scores are not what FP32 gives."""
    expected = detections()
    seen = dict(expected) | {"scores": expected["scores"][:, ::-1]}
    assert sqnr_db(expected, seen) < 10
    seen = dict(expected) | {"labels": np.roll(expected["labels"], 1, axis=1)}
    assert sqnr_db(expected, seen) < 10


@pytest.mark.parametrize("ranked", [FIXED, VARYING])
@pytest.mark.parametrize("rows", [3, 10, 100, 1000])
def test_rows_of_another_picture_are_found_out(ranked, rows):
    assert sqnr_db(detections(rows, 1), detections(rows, 2), ranked) < 10


@pytest.mark.parametrize("ranked", [FIXED, VARYING])
def test_one_row_again_and_again_is_found_out(ranked):
    expected = detections()
    assert sqnr_db(expected, rows_of(expected, np.zeros(100, int)), ranked) < 10
    zeros = {name: np.zeros_like(values) for name, values in expected.items()}
    assert sqnr_db(expected, zeros, ranked) < 1


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_rows_of_which_a_part_is_garbage_are_found_out(share):
    expected, other = detections(), detections(seed=3)
    seen = {name: values.copy() for name, values in expected.items()}
    for name, values in seen.items():
        values[:, : int(100 * share)] = other[name][:, : int(100 * share)]
    assert sqnr_db(expected, sorted_again(seen)) < 20


def tied(rows=100):
    """Return rows with scores as close together as those of a random network."""
    found = detections(rows + 4)
    found["scores"] = np.linspace(0.6, 0.56, rows + 4)[None]
    return found


@pytest.mark.parametrize("scored", [True, False])
def test_rows_that_tie_at_the_end_of_a_list_may_be_others(scored):
    everything = tied()
    expected = rows_of(everything, np.arange(100))
    seen = noisy(rows_of(everything, [*range(97), 100, 101, 102]), 1e-3)
    ranked = FIXED
    if not scored:
        del expected["scores"], seen["scores"]
        ranked = (RankedRows(axes={"boxes": 1, "labels": 1}, count=100),)
    assert sqnr_db(expected, seen, ranked) == pytest.approx(60, abs=1)
    varying = (RankedRows(axes=ranked[0].axes, count=None),)
    assert sqnr_db(expected, seen, varying) < 20


@pytest.mark.parametrize("seed", range(6))
def test_noise_counts_as_it_would_in_order_where_it_replaces_rows_too(seed):
    """As INT8 does where many scores are nearly equal: one row in twenty is another then."""
    everything = tied(130)
    seen = rows_of(sorted_again(noisy(everything, 10 ** (-50 / 20), seed)), np.arange(100))
    expected = rows_of(everything, np.arange(100))
    assert sqnr_db(expected, seen, ()) < 12
    assert sqnr_db(expected, seen) == pytest.approx(50, abs=1.5)


def test_more_than_a_tenth_or_rows_far_above_the_end_may_not():
    everything = detections(130)
    expected = rows_of(everything, np.arange(100))
    many = rows_of(everything, [*range(80), *range(100, 120)])
    assert sqnr_db(expected, noisy(many, 1e-3)) < 20
    lost_best = rows_of(everything, [*range(5, 100), 100, 101, 102, 103, 104])
    assert sqnr_db(expected, noisy(lost_best, 1e-3)) < 20


def test_a_padded_list_that_loses_its_only_row_is_found_out():
    for rows in (5, 12, 100):
        expected = {name: np.zeros_like(values) for name, values in detections(rows).items()}
        for name, values in detections(1).items():
            expected[name][:, 0] = values[:, 0]
        nothing = {name: np.zeros_like(values) for name, values in expected.items()}
        assert sqnr_db(expected, nothing) == pytest.approx(0, abs=1e-6)
        assert sqnr_db(nothing, expected) == -300


@pytest.mark.parametrize(
    ("rows", "decibels"), [(range(1, 40), 12), (range(39), 12), ([*range(40), 3], 12), ([], 0)]
)
def test_rows_without_a_partner_count_against_a_varying_list(rows, decibels):
    """A row lost or invented among 40 is a 40th of the energy, more or less."""
    found = sqnr_db(detections(40), rows_of(detections(40), np.array(rows, int)), VARYING)
    assert found == pytest.approx(decibels, abs=5)
    assert np.isfinite(found)


def test_no_rows_on_either_side_are_no_difference():
    comparison = Comparison("generic", ranked=VARYING)
    some = detections(4)
    none = rows_of(some, np.zeros(0, int))
    comparison.add(none, none)
    comparison.add(some, noisy(some, 1e-2))
    assert comparison.result().sqnr_db == pytest.approx(40, abs=6)
    assert comparison.result().frames == 2
    only = Comparison("generic", ranked=VARYING)
    only.add(none, none)
    assert only.result().sqnr_db is None


def test_other_axes_must_still_have_one_length():
    expected = detections(4)
    with pytest.raises(RunnerError, match="output boxes has shape") as caught:
        sqnr_db(expected, dict(expected) | {"boxes": np.ones((1, 4, 5))}, VARYING)
    assert caught.value.code == "outputs"
    with pytest.raises(RunnerError, match="output boxes has shape"):
        sqnr_db(expected, rows_of(expected, [0, 1]), ())


def test_channels_of_few_rows_are_those_of_a_row():
    """Two rows of six values have six channels; the shape alone would say two."""
    rows = np.array([[100.0, 100, 200, 200, 0.9, 0.5], [300, 100, 420, 200, 0.8, 0.6]])
    seen = rows.copy()
    seen[:, 4:] = 0
    ranked = (RankedRows(axes={"y": 0}, count=None),)
    comparison = Comparison("generic", ranked=ranked)
    comparison.add({"y": rows}, {"y": seen})
    assert [one.channels for one in comparison.result().sqnr_groups] == ["4-5", "0-3"]
    assert comparison.result().sqnr_db == pytest.approx(0)


def test_many_equal_rows_take_no_time():
    expected = {name: np.zeros_like(values) for name, values in detections(2048).items()}
    for name, values in detections(20).items():
        expected[name][:, :20] = values
    seen = noisy(expected, 0.0)
    for name in seen:
        seen[name] = np.delete(seen[name], 7, axis=1)
        seen[name] = np.append(seen[name], np.zeros_like(seen[name][:, :1]), axis=1)
    assert 8 < sqnr_db(expected, seen) < 20


def test_rows_of_a_batch_in_one_list_are_not_split():
    ranked = (RankedRows(axes={"y": 0}, count=None),)
    rows = np.arange(12.0).reshape(2, 6)
    comparison = Comparison("generic", ranked=ranked)
    comparison.add({"y": rows}, {"y": rows[::-1]}, frames=2)
    assert (comparison.result().sqnr_db, comparison.result().frames) == (None, 2)
