"""What the baseline finds on frames is questioned where wrong pixels would look the same."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.core.errors import ConfigError, RunnerError
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.plausibility import Plausibility

YOLO = Decoding(kind="yolo", threshold=0.25)


def seen(task: str, *outputs: NDArray, decoding: Decoding | None = None) -> Plausibility:
    found = Plausibility(task, decoding)
    for one in outputs:
        found.add({"y": one})
    return found


def logits(*tops: int, classes: int = 10, height: float = 5.0) -> list[NDArray]:
    """Return rows of logits with their largest at these classes."""
    drawn = np.random.default_rng(0)
    rows = [drawn.normal(0, 1, (1, classes)) for _ in tops]
    for row, top in zip(rows, tops, strict=True):
        row[0, top] = height + row.max()
    return rows


def boxes(*scores: float) -> NDArray:
    """Return one frame of a YOLO head with one class: 4 + 1 rows, and 20 columns of boxes."""
    head = np.tile(np.array([50.0, 50.0, 9.0, 9.0, 0.0])[:, None], 20)
    head[0] += 20 * np.arange(20)
    head[4, : len(scores)] = scores
    return head[None]


@pytest.mark.parametrize(
    ("task", "outputs", "decoding"),
    [
        ("classification", logits(3, 4), None),
        ("classification", [np.array([[0.3]]), np.array([[0.6]])], None),
        ("classification", [np.array([[3]]), np.array([[4]])], None),
        ("detection", [boxes(0.9, 0.1), boxes(0.1, 0.1)], YOLO),
        ("detection", logits(3, 3), None),
        ("segmentation", [np.eye(4)[None, None], np.ones((1, 1, 4, 4)) / 3], None),
        ("generic", logits(3, 3), None),
        ("package.metric:same", logits(3, 3), None),
    ],
)
def test_what_looks_right_needs_no_further_frame(task, outputs, decoding):
    found = seen(task, *outputs, decoding=decoding)
    assert found.sound
    assert found.doubts() == ()
    assert not found.hopeless


def test_a_detector_that_finds_nothing_is_questioned():
    found = seen("detection", boxes(0.1, 0.2), boxes(0.2, 0.1), decoding=YOLO)
    assert not found.sound
    assert found.doubts() == ("FP32 finds nothing in 2 frames (a box with a score of 0.25)",)
    found.add({"y": boxes(0.9)})
    assert found.sound


def test_a_mask_that_is_empty_everywhere_is_questioned():
    empty = [np.full((1, 1, 4, 4), value) for value in (0.1, 0.2, 0.3)]
    assert seen("segmentation", *empty).doubts() == ("FP32 finds nothing in 3 frames (a mask)",)
    scores = [np.zeros((1, 3, 4, 4)) for _ in range(2)]
    for number, one in enumerate(scores):
        one[:, 1] = 0.5 + number
    assert seen("segmentation", *scores).doubts() == ("FP32 finds nothing in 2 frames (a mask)",)


def test_scores_that_are_all_0_or_1_are_questioned():
    steep = logits(3, 4, height=900.0)
    words = "FP32's scores are all 0 or 1 on 2 frames"
    assert seen("classification", *steep).doubts() == (words,)
    flat = [np.eye(10)[None, 3], np.eye(10)[None, 4]]
    assert seen("classification", *flat).doubts() == (words,)
    single = [np.array([[800.0]]), np.array([[-800.0]])]
    assert seen("classification", *single).doubts() == (words,)
    assert seen("detection", boxes(1.0), boxes(1.0, 1.0), decoding=YOLO).doubts() == (words,)
    assert seen("detection", boxes(1.0), boxes(1.0, 0.7), decoding=YOLO).sound


def test_one_class_for_many_pictures_is_questioned_and_for_a_few_is_not():
    few = seen("classification", *logits(*[3] * 7))
    assert not few.sound
    assert few.doubts() == ()
    many = seen("classification", *logits(*[3] * 8))
    assert many.doubts() == ("FP32 names class 3 on all 8 frames",)
    many.add({"y": logits(4)[0]})
    assert many.sound


def test_one_of_two_classes_may_be_the_rule():
    two = [row[:, :2] for row in logits(*[0] * 9)]
    assert seen("classification", *two).sound


def test_outputs_that_no_frame_changes_are_questioned_whatever_the_task():
    one = logits(3)[0]
    words = "FP32's outputs are the same on all 3 frames"
    assert seen("generic", one, one * (1 + 1e-7), one).doubts() == (words,)
    assert seen("classification", one, one, one).doubts() == (words,)
    assert seen("generic", one, one, 1.001 * one).sound
    assert seen("generic", one, one[:, :5]).sound
    assert seen("generic", np.array([[1]]), np.array([[1]])).doubts()
    assert seen("generic", one).doubts() == ()


def test_values_that_are_not_finite_are_counted_and_end_it_where_no_frame_is_left():
    good, bad = logits(3, 4), [np.array([[np.nan, 1.0]]), np.array([[np.inf, 1.0]])]
    some = seen("classification", *good, *bad)
    assert some.doubts() == ("FP32's output y has NaN or infinite values on 2 of 4 frames",)
    assert not some.hopeless
    none = seen("classification", *bad)
    assert none.hopeless
    assert none.doubts() == ("FP32's output y has NaN or infinite values on 2 of 2 frames",)
    assert not Plausibility("generic", None).hopeless


def test_numbers_that_can_not_be_boxes_end_the_run():
    with pytest.raises(ConfigError, match=r"not inside 0\.\.1"):
        seen("detection", boxes(7.0), decoding=YOLO)


def test_outputs_that_contain_nothing_or_text_are_no_error_here():
    assert seen("classification", np.zeros((1, 0)), np.zeros((1, 0))).doubts()[0] == (
        "FP32 finds nothing in 2 frames (a class that is ahead)"
    )
    assert seen("generic", np.array(["a"]), np.array(["b"])).sound


def test_the_users_own_metric_is_tried_on_the_baseline():
    found = Plausibility("package.metric:same", None, lambda _, __: 1.0)
    for one in logits(3, 3):
        found.add({"y": one})
    assert found.sound
    wrong = Plausibility("package.metric:same", None, lambda _, __: 7.0)
    with pytest.raises(RunnerError, match=r"returned 7\.0"):
        wrong.add({"y": logits(3)[0]})
