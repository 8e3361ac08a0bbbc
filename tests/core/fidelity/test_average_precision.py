"""Average precision: small cases by hand, and what must hold for any boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.core.fidelity.average_precision import PrecisionCurve
from agent.core.fidelity.box_matching import THRESHOLDS, matches
from agent.core.fidelity.comparison import Comparison
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.detection import suppress
from agent.core.fidelity.detection_agreement import DetectionAgreement
from tests.support.boxes import detections, some_detections

AS_THEY_ARE = Decoding(kind="boxes", boxes="b", scores="s", labels="c", overlap=1.0, threshold=0.1)


def outputs(found, rows=13):
    """Return raw outputs that hold the detections, filled up with boxes of score 0."""
    empty = rows - len(found)
    return {
        "b": np.pad(found.boxes, ((0, empty), (0, 0)))[None],
        "s": np.pad(found.scores, (0, empty))[None],
        "c": np.pad(found.labels, (0, empty))[None],
    }


def judged(frames):
    agreement = DetectionAgreement(AS_THEY_ARE)
    for truth, found in frames:
        agreement.add(outputs(truth), outputs(found))
    return agreement


def area(scores, hit, truths, ties_together=True):
    curve = PrecisionCurve(np.array(scores, float), ties_together=ties_together)
    return curve.area(np.array(hit, bool)[curve.order], np.ones(len(scores)), truths)


def test_average_precision_by_hand():
    two_of_three = (34 * 1 + 33 * 2 / 3) / 101  # recalls 0 to 0.33, then 0.34 to 0.66
    assert area([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], 3) == pytest.approx(two_of_three)
    assert area([0.6, 0.9, 0.7, 0.8], [0, 1, 1, 0], 3) == pytest.approx(two_of_three)
    assert area([0.9, 0.8, 0.7], [0, 1, 1], 2) == pytest.approx(2 / 3)  # made monotonic
    assert area([0.9, 0.9], [1, 0], 1) == area([0.9, 0.9], [0, 1], 1) == 0.5
    assert area([0.9, 0.9], [0, 1], 1, ties_together=False) == 0.5
    assert area([0.9, 0.9], [1, 0], 1, ties_together=False) == 1
    assert area([], [], 2) == 0
    assert np.isnan(area([0.9], [0], 0))


def test_a_box_is_hit_once_and_only_by_its_class():
    truth = detections(((0, 0, 10, 10), 0.9, 1), ((20, 0, 30, 10), 0.8, 1))
    found = detections(
        ((0, 0, 10, 10), 0.9, 2),  # another class
        ((0, 0, 10, 8), 0.8, 1),  # overlaps by 0.8
        ((0, 0, 10, 10), 0.7, 1),  # the second on the same object
        ((20, 0, 30, 5), 0.6, 1),  # overlaps by exactly 0.5
    )
    hit, _ = matches(found, truth)
    assert hit[:, 0].tolist() == [False, True, False, True]
    assert hit[1].tolist() == [threshold <= 0.8 for threshold in THRESHOLDS]
    assert hit[2].tolist() == [threshold > 0.8 for threshold in THRESHOLDS]
    assert hit[3].sum() == 1


def test_the_mean_over_thresholds_sees_boxes_that_are_a_little_off():
    truth = detections(((0, 0, 10, 10), 0.9, 0))
    metrics = judged([(truth, detections(((0, 0, 10, 8), 0.9, 0)))]).metrics()
    assert metrics == {"ap50": 1.0, "ap50_95": pytest.approx(0.7)}


@given(frames=st.lists(some_detections(), min_size=1, max_size=4))
def test_identical_boxes_agree_fully(frames):
    metrics = judged([(one, one) for one in frames]).metrics()
    if any(len(one) for one in frames):
        assert metrics == {"ap50": pytest.approx(1), "ap50_95": pytest.approx(1)}
    else:
        assert metrics == {}


@given(truth=some_detections(), found=some_detections(), data=st.data())
def test_the_order_of_boxes_does_not_matter(truth, found, data):
    def shuffled(one):
        return one.pick(np.array(data.draw(st.permutations(range(len(one)))), np.intp))

    plain = judged([(truth, found)]).metrics()
    assert judged([(shuffled(truth), shuffled(found))]).metrics() == plain
    assert all(0 <= value <= 1 for value in plain.values())


@given(truth=some_detections(), found=some_detections(), data=st.data())
def test_dropping_a_box_never_raises_recall(truth, found, data):
    assume(len(found))
    whole = suppress(found, 1.0, 99)
    index = data.draw(st.integers(0, len(found) - 1))
    less = whole.pick(np.delete(np.arange(len(whole)), index))
    assert (matches(less, truth)[0].sum(0) <= matches(whole, truth)[0].sum(0)).all()


@given(
    frames=st.lists(st.tuples(some_detections(5), some_detections(5)), min_size=2, max_size=4),
    data=st.data(),
)
def test_a_frame_that_counts_twice_is_that_frame_twice(frames, data):
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(frames), max_size=len(frames)))
    (weighed,) = judged(frames).value(np.array([times], float))
    repeated = [one for one, count in zip(frames, times, strict=True) for _ in range(count)]
    metrics = judged(repeated).metrics() if repeated else {}
    assert weighed == pytest.approx(metrics.get("ap50", float("nan")), nan_ok=True)


def test_boxes_that_the_engine_invents_count_even_in_a_class_of_their_own():
    truth = detections(((0, 0, 10, 10), 0.5, 0))
    loud = detections(((0, 0, 10, 10), 0.5, 0), ((50, 0, 60, 10), 0.9, 7))
    assert judged([(truth, loud)]).metrics()["ap50"] == 0.5
    nothing = detections()
    assert judged([(truth, truth), (nothing, loud)]).metrics()["ap50"] < 1


def test_through_the_comparison_with_an_interval():
    comparison = Comparison("detection", None, AS_THEY_ARE)
    truth = detections(((0, 0, 10, 10), 0.9, 0))
    for index in range(20):
        found = detections(((0, 0, 10, 10), 0.8, 0)) if index % 4 else detections()
        comparison.add(outputs(truth), outputs(found))
    found = comparison.result()
    three_in_four = pytest.approx(76 / 101)  # of the recalls
    assert (found.agreement, found.task["ap50_95"]) == (three_in_four, three_in_four)
    assert found.task["ap50"] == found.agreement
    assert found.agreement_reason == ""
    low, high = found.agreement_ci95
    assert 0.4 < low < 0.7 < 0.8 < high < 1


def test_a_baseline_that_sees_nothing_gives_no_agreement_but_a_reason():
    comparison = Comparison("detection", None, AS_THEY_ARE)
    for _ in range(40):
        comparison.add(outputs(detections()), outputs(detections(((0, 0, 9, 9), 0.9, 0))))
    found = comparison.result()
    assert (found.agreement, found.agreement_ci95, found.task) == (None, None, {})
    assert found.agreement_reason == (
        "not enough seen to judge: FP32 sees something (a box with a score of 0.1) on 0 of 40 "
        "held-out frames, and 4 are needed"
    )
    assert found.judged_frames == 0
    assert found.summary == f"can't be judged: {found.agreement_reason}"


def test_the_interval_is_as_wide_as_the_frames_that_show_something_are_few():
    """Frames of an empty scene are no evidence, however many there are."""
    truth, empty = detections(((0, 0, 10, 10), 0.9, 0)), detections()
    spans = []
    for empties in (0, 60):
        comparison = Comparison("detection", None, AS_THEY_ARE)
        for index in range(12):
            comparison.add(outputs(truth), outputs(truth if index % 3 else empty))
        for _ in range(empties):
            comparison.add(outputs(empty), outputs(empty))
        found = comparison.result()
        assert (found.judged_frames, found.frames) == (12, 12 + empties)
        assert found.agreement == pytest.approx(67 / 101)  # recalls up to 8 of 12
        spans.append(found.agreement_ci95)
    (low, high), (sparse_low, sparse_high) = spans
    assert sparse_low <= low + 0.05
    assert sparse_high >= high - 0.05


@pytest.mark.parametrize(("seen_on", "agreement"), [(3, None), (4, 1.0)])
def test_a_few_frames_that_show_something_are_needed(seen_on, agreement):
    comparison = Comparison("detection", None, AS_THEY_ARE)
    truth = detections(((0, 0, 10, 10), 0.9, 0))
    for index in range(30):
        shown = truth if index < seen_on else detections()
        comparison.add(outputs(shown), outputs(shown))
    found = comparison.result()
    assert (found.agreement, found.judged_frames) == (agreement, seen_on)
    assert found.agreement_ci95 is None
