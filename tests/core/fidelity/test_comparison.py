"""SQNR, cosine and the agreement of each task, on arrays whose answer is known."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agent.core.errors import RunnerError
from agent.core.fidelity.comparison import Comparison

RNG = np.random.default_rng(0)


def compare(task, *frames, metric=None, times=None):
    """Compare frames; a task's metric needs a few, and is the same however often they come."""
    comparison = Comparison(task, metric)
    for expected, seen in frames * (times or (1 if task == "generic" else 4)):
        comparison.add({"y": np.asarray(expected)}, {"y": np.asarray(seen)})
    return comparison.result()


def identical(found):
    return found.sqnr_reason == "identical to the baseline"


def one_hot(labels, classes, axis):
    return np.moveaxis(np.eye(classes, dtype=np.float32)[np.asarray(labels)], -1, axis)


def test_sqnr_and_cosine_by_hand():
    found = compare("generic", ([3.0, 4.0], [3.0, 4.5]))
    assert found.sqnr_db == pytest.approx(10 * np.log10(25 / 0.25))
    assert found.cosine == pytest.approx((9 + 18) / (5 * np.hypot(3, 4.5)))
    assert not identical(found)
    assert (found.task, found.agreement, found.frames) == ({}, None, 1)
    assert found.agreement_reason == "a generic task has no agreement metric"


def test_noise_of_known_power_gives_its_sqnr():
    signal = RNG.standard_normal(200_000)
    found = compare("generic", (signal, signal + 0.01 * RNG.standard_normal(200_000)))
    assert found.sqnr_db == pytest.approx(40, abs=0.1)


def test_frames_are_pooled_before_the_ratio():
    found = compare("generic", ([10.0], [10.0]), ([1.0], [0.0]))
    assert found.sqnr_db == pytest.approx(10 * np.log10(101 / 1))
    assert found.frames == 2


def test_the_worst_output_counts():
    comparison = Comparison("generic")
    good, bad = np.ones(4), np.array([1.0, -1.0])
    comparison.add({"a": good, "b": bad}, {"a": good * 1.001, "b": -bad})
    found = comparison.result()
    assert found.sqnr_db == found.per_output_sqnr_db["b"] == pytest.approx(-6.02, abs=0.01)
    assert found.per_output_sqnr_db["a"] == pytest.approx(60)
    assert found.cosine == pytest.approx(-1)


def test_identical_outputs_have_no_finite_sqnr():
    found = compare("generic", ([0.0, 2.0], [0.0, 2.0]))
    assert (identical(found), found.sqnr_db, found.cosine) == (True, None, 1.0)
    assert found.per_output_sqnr_db == {"y": None}


def test_a_difference_too_small_to_be_squared_is_not_called_identical():
    found = compare("generic", ([1e-170], [2e-170]))
    assert (found.sqnr_db, found.sqnr_reason) == (None, "differs too little to be squared")


def test_where_there_is_no_interval_the_reason_is_reported():
    same = compare("classification", *[([[1.0, 2.0]], [[1.0, 2.0]])] * 40)
    assert (same.agreement, same.agreement_ci95) == (1.0, None)
    assert same.ci95_reason == "identical to the baseline"
    few = compare("generic", ([1.0, 2.0], [1.0, 2.1]))
    assert (few.sqnr_db_ci95, few.ci95_reason[:21]) == (None, "1 held-out frames giv")
    assert compare("generic", ([1.0, 2.0], [1.0, 2.0])).ci95_reason == ""


def test_an_all_zero_baseline():
    both = compare("generic", (np.zeros(3), np.zeros(3)))
    assert (identical(both), both.sqnr_db, both.cosine) == (True, None, 1.0)
    only = compare("generic", (np.zeros(3), np.ones(3)))
    assert (identical(only), only.sqnr_db, only.cosine) == (False, -300.0, 0.0)
    silent = compare("generic", (np.ones(3), np.zeros(3)))
    assert (silent.sqnr_db, silent.cosine) == (0.0, 0.0)


@given(
    expected=hnp.arrays(np.float32, 6, elements=st.floats(-(2.0**20), 2.0**20, width=32)),
    seen=hnp.arrays(np.float32, 6, elements=st.floats(-(2.0**20), 2.0**20, width=32)),
)
def test_any_finite_outputs_give_numbers_in_range(expected, seen):
    found = compare("generic", (expected, seen))
    assert identical(found) == np.array_equal(expected, seen)
    assert (found.sqnr_db is None) == identical(found)
    assert found.sqnr_db is None or np.isfinite(found.sqnr_db)
    assert -1 <= found.cosine <= 1


@pytest.mark.parametrize(
    ("expected", "seen", "code"),
    [
        ([1.0], [float("nan")], "not_finite"),
        ([1.0], [float("inf")], "not_finite"),
        ([float("nan")], [float("nan")], "baseline_not_finite"),
        ([1.0, 2.0], [1.0], "outputs"),
        ([], [], "outputs"),
        (["a"], ["a"], "outputs"),
    ],
)
def test_outputs_that_can_not_be_compared_have_a_reason(expected, seen, code):
    with pytest.raises(RunnerError, match="output y") as caught:
        compare("classification", (expected, seen))
    assert caught.value.code == code


def test_a_missing_output_and_no_output_and_no_frame():
    with pytest.raises(RunnerError, match="no output y"):
        Comparison("generic").add({"y": np.ones(1)}, {"z": np.ones(1)})
    with pytest.raises(RunnerError, match="no output to compare"):
        Comparison("generic").add({}, {})
    with pytest.raises(RunnerError, match="no held-out frame"):
        Comparison("generic").result()


def test_frames_of_a_batch_are_counted():
    comparison = Comparison("generic")
    comparison.add({"y": np.ones((4, 2))}, {"y": np.ones((4, 2))}, frames=4)
    assert comparison.result().frames == 4


def test_memory_does_not_grow_with_frames():
    comparison = Comparison("segmentation")
    maps = RNG.random((1, 5, 64, 64))
    comparison.add({"y": maps}, {"y": maps * 0.9})
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20):
            comparison.add({"y": maps}, {"y": maps * 0.9})
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 20_000  # one frame's map is 160 kB


@pytest.mark.parametrize("shape", [(1, 1000), (1, 1000, 1, 1), (1000,), (1, 1, 1, 1000)])
def test_top1_and_top5_of_pooled_scores_in_any_shape(shape):
    scores = np.arange(1000.0)
    other = scores.copy()
    other[[999, 3]] = other[[3, 999]]
    found = compare("classification", (scores.reshape(shape), other.reshape(shape)))
    assert found.task == {"top1": 0.0, "top5": 0.8}
    same = compare("classification", (scores.reshape(shape), scores.reshape(shape) * 2))
    assert same.task == {"top1": 1.0, "top5": 1.0}
    assert same.agreement == 1.0


def test_top1_over_frames_and_batches_is_a_share_of_rows():
    right, wrong = [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]
    found = compare("classification", ([right, right], [right, wrong]), ([right], [right]))
    assert found.task == {"top1": pytest.approx(2 / 3)}


@pytest.mark.parametrize(
    ("expected", "seen", "share"),
    [
        ([[0.9], [0.1], [0.6], [0.4]], [[0.8], [0.6], [0.7], [0.3]], 0.75),
        ([[2.0], [-2.0], [0.3], [-0.3]], [[1.0], [-1.0], [-0.1], [-0.2]], 0.75),
        ([[3], [4], [5], [6]], [[3], [4], [5], [7]], 0.75),
    ],
)
def test_one_value_per_row_is_a_decision_or_an_id(expected, seen, share):
    assert compare("classification", (expected, seen)).agreement == share


def test_a_later_frame_shows_that_the_values_are_logits():
    """A first frame inside 0..1 must not turn logits into probabilities."""
    found = compare("segmentation", ([[0.2, 0.8]], [[0.2, 0.4]]), ([[-3.0, 3.0]], [[-3.0, 3.0]]))
    assert found.agreement == 1.0
    alone = compare("segmentation", ([[0.2, 0.8]], [[0.2, 0.4]]))
    assert alone.agreement == 0.0


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_foreground_iou_of_one_channel(scale):
    shift = 0.0 if scale == 1.0 else 0.5
    expected = (np.array([[[[0.9, 0.9, 0.9, 0.1]]]]) - shift) * scale
    seen = (np.array([[[[0.9, 0.9, 0.2, 0.9]]]]) - shift) * scale
    assert compare("segmentation", (expected, seen)).agreement == 0.5


def test_foreground_pixels_are_pooled_over_frames():
    empty, full = np.zeros((1, 1, 2, 2)), np.ones((1, 1, 2, 2))
    frames = [(empty, empty)] * 9 + [(full, empty)]
    assert compare("segmentation", *frames).agreement == 0.0
    assert compare("segmentation", (empty, full), *frames).agreement == 0.0


@pytest.mark.parametrize(
    ("axis", "classes", "size"), [(1, 3, (4, 6)), (3, 3, (4, 6)), (1, 9, (4, 4)), (3, 9, (4, 4))]
)
def test_mean_iou_of_several_classes_in_both_layouts(axis, classes, size):
    labels = np.zeros((1, *size), int)
    labels[:, 2:] = 1
    other = labels.copy()
    other[:, 3:] = 2
    found = compare("segmentation", (one_hot(labels, classes, axis), one_hot(other, classes, axis)))
    assert found.agreement == pytest.approx((1 + 0.5 + 0) / 3)


def test_integer_maps_are_class_ids():
    found = compare("segmentation", ([[[0, 1, 1, 2]]], [[[0, 1, 2, 2]]]))
    assert found.agreement == pytest.approx((1 + 0.5 + 0.5) / 3)


def logits(*best, classes=10):
    """Return scores of which the given ones are the best, all equal."""
    found = np.linspace(0, 0.5, classes)
    found[list(best)] = 4.0
    return found[None]


def test_a_tie_of_the_baseline_is_no_disagreement_and_no_evidence():
    """FP32's own order of equal scores is luck, and so would be an agreement with it."""
    tie, hair = logits(2, 7), logits(2, 7)
    hair[0, 7] = np.nextafter(np.float32(4.0), np.float32(5.0))  # float16 does not know it
    frames = [(logits(1), logits(1))] * 6 + [(hair, logits(2)), (tie, logits(7))]
    found = compare("classification", *frames, times=1)
    assert (found.agreement, found.judged_frames, found.frames) == (1.0, 6, 8)
    only = compare("classification", *[(hair, logits(5))] * 30)
    assert (only.agreement, only.task, only.judged_frames) == (None, {}, 0)
    assert only.agreement_reason.startswith("not enough seen to judge: FP32 sees something (a cl")
    apart = hair.copy()
    apart[0, 7] = 4.01
    assert compare("classification", (apart, logits(2))).agreement == 0.0


def test_a_row_that_ties_agrees_with_any_of_its_best_and_no_other():
    def rows(*each):
        return np.concatenate(each)

    expected = rows(logits(1), logits(2, 7))
    assert compare("classification", (expected, rows(logits(1), logits(7)))).agreement == 1.0
    assert compare("classification", (expected, rows(logits(1), logits(3)))).agreement == 0.5


def test_a_binary_decision_at_the_threshold_is_a_tie():
    found = compare("classification", ([[0.5001]], [[0.4]]), *[([[0.9]], [[0.8]])] * 3, times=2)
    assert (found.agreement, found.judged_frames) == (1.0, 6)
    assert compare("classification", ([[0.51]], [[0.4]]), ([[0.9]], [[0.8]])).agreement == 0.5


def test_undecided_pixels_agree_and_an_empty_map_is_not_judged():
    mask = np.full((1, 1, 4, 4), 0.1)
    mask[..., :2] = 0.9
    edge = mask.copy()
    edge[..., 2] = 0.5001
    seen = np.where(edge == 0.5001, 0.3, edge)
    empty = np.full_like(mask, 0.1)
    found = compare("segmentation", (edge, seen), (empty, empty), times=5)
    assert (found.agreement, found.judged_frames, found.frames) == (1.0, 5, 10)
    assert compare("segmentation", (empty, empty), times=20).agreement is None
    invented = compare("segmentation", (mask, mask), (empty, mask))
    assert invented.agreement == 0.5


def test_a_map_of_one_class_shows_nothing():
    labels = np.zeros((1, 4, 6), int)
    one, two = one_hot(labels, 3, 1), one_hot(labels + (np.arange(6) > 3), 3, 1)
    assert compare("segmentation", (one, one), times=9).judged_frames == 0
    assert compare("segmentation", (one, one), (two, two), times=9).judged_frames == 9
    close = two.copy()
    close[:, 2] = close[:, 1] + 1e-4 * (close[:, 1] > 0)  # ahead by less than float16 shows
    assert compare("segmentation", (close, two)).agreement == 1.0


def test_frames_of_a_batch_are_judged_one_by_one():
    comparison = Comparison("classification")
    batch = np.concatenate([logits(1), logits(2, 3), logits(4), logits(5)])
    for _ in range(2):
        comparison.add({"y": batch}, {"y": batch * 1.01}, frames=4)
    found = comparison.result()
    assert (found.agreement, found.judged_frames, found.frames) == (1.0, 6, 8)


def test_a_task_without_a_metric_judges_no_frame():
    assert compare("generic", ([1.0], [1.5])).judged_frames is None


def test_detection_offers_no_agreement_and_gives_the_reason():
    found = compare("detection", ([1.0], [1.5]))
    assert (found.task, found.agreement) == ({}, None)
    assert "boxes" in found.agreement_reason


def test_a_users_metric_is_averaged():
    def metric(expected, seen):
        return float(abs(expected["y"] - seen["y"])[0])

    found = compare("mine:metric", ([1.0], [0.5]), ([1.0], [0.0]), metric=metric)
    assert (found.task, found.agreement) == ({"mine:metric": 0.75}, 0.75)


@pytest.mark.parametrize("value", [float("nan"), None, "1", 2.0, -0.1])
def test_a_users_metric_that_makes_no_sense_is_reported(value):
    with pytest.raises(RunnerError, match="mine:metric returned") as caught:
        compare("mine:metric", ([1.0], [0.5]), metric=lambda *_: value)
    assert caught.value.code == "user_metric"


@pytest.mark.parametrize(
    ("task", "values", "threshold"),
    [
        ("classification", [[[0.3]], [[0.9]]], 0.5),
        ("classification", [[[0.3]], [[-4.0]]], 0.0),
        ("classification", [[[0.3, 0.4]]], None),
        ("segmentation", [[[[[0.3, 1.0]]]]], 0.5),
        ("segmentation", [[[[[0.3, 3.0]]]], [[[[0.3, 1.0]]]]], 0.0),
        ("segmentation", np.ones((1, 1, 2, 2, 2)).tolist(), None),
        ("segmentation", [np.ones((1, 2, 2), np.int64)], None),
        ("generic", [[[0.3]]], None),
    ],
)
def test_the_threshold_that_judged_is_known_afterwards(task, values, threshold):
    """An application needs it for a score that stands alone: one frame does not show it."""
    compared = Comparison(task)
    for value in values:
        outputs = {"y": np.asarray(value)}
        compared.add(outputs, outputs)
    assert compared.result().threshold == threshold


def test_resamples_of_two_engines_are_of_the_same_frames():
    """So the better of both is better in each of them, though frames differ by 20 dB."""
    draw = np.random.default_rng(0)
    near, far = Comparison("generic"), Comparison("generic")
    for frame in range(8):
        expected = draw.standard_normal((1, 4, 8, 8))
        noise = 10.0 ** (-frame / 4) * draw.standard_normal(expected.shape)
        near.add({"y": expected}, {"y": expected + 0.9 * noise})
        far.add({"y": expected}, {"y": expected + noise})
    pairs = list(zip(near.resampled_db(), far.resampled_db(), strict=True))
    assert len(pairs) >= 100
    assert all(one > other for one, other in pairs)
    assert max(far.resampled_db()) - min(far.resampled_db()) > 3
    assert Comparison("generic").resampled_db() == ()
