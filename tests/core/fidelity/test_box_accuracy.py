"""Accuracy of detectors against true boxes: both engines, the classes and the unit of boxes."""

from __future__ import annotations

import numpy as np
import pytest

from agent.core.errors import ConfigError
from agent.core.fidelity.box_accuracy import BoxAccuracy, Categories, TrueBoxes
from agent.core.fidelity.comparison import Comparison
from agent.core.fidelity.decoding import Decoding

SIZE = (64, 32)
BOX = (8.0, 4.0, 24.0, 20.0)
YOLO = {"kind": "yolo", "overlap": 1.0}
IDS = {"kind": "boxes", "boxes": "b", "scores": "s", "labels": "c", "overlap": 1.0}
TWO = {0: "car", 1: "person"}


def true(*boxes, labels=None, crowd=None) -> TrueBoxes:
    return TrueBoxes(
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        labels=np.array(labels or [0] * len(boxes), np.int64),
        crowd=np.array(crowd or [False] * len(boxes), np.bool_),
    )


def yolo(*found, classes=2, scale=(1, 1)):
    """Return a head (1, n, 4 + classes) with (box, score, class) each, and a row of nothing."""
    head = np.zeros((1, 9, 4 + classes), np.float32)
    for row, ((left, top, right, bottom), score, label) in enumerate(found):
        center = np.array([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])
        head[0, row, :4] = center * np.tile(scale, 2)
        head[0, row, 4 + label] = score
    return {"y": head}


def judge(truths, decoding=YOLO, names=TWO, ordered=True) -> BoxAccuracy:
    return BoxAccuracy(truths, Categories(names=names, ordered=ordered), Decoding(**decoding), SIZE)


def test_accuracy_of_both_beside_the_agreement():
    """FP32 finds every object, the engine those of two frames in three; an unknown frame is none."""
    truths = [true(BOX), true(BOX), true(BOX), None] * 4
    right, nothing = yolo((BOX, 0.9, 0)), yolo()
    comparison = Comparison("detection", None, Decoding(**YOLO), judge(truths))
    for _ in range(4):
        for engine in (right, right, nothing, nothing):
            comparison.add(right, engine)
    found = comparison.result()
    two_thirds = pytest.approx(67 / 101)
    assert found.task["accuracy"] == two_thirds == found.task["accuracy_ap50_95"]
    assert found.task["baseline_accuracy"] == found.task["baseline_accuracy_ap50_95"] == 1
    assert (found.agreement, found.labelled) == (pytest.approx(51 / 101), 12)
    low, high = found.accuracy_ci95
    assert 0.2 < low < 0.6 < 0.8 < high < 1


def test_accuracy_is_the_mean_over_classes_and_crowds_do_not_count():
    other = (40.0, 4.0, 60.0, 20.0)
    truths = [true(BOX, other, other, labels=[0, 1, 1], crowd=[False, False, True])]
    accuracy = judge(truths)
    engine = yolo((BOX, 0.9, 0), ((41.0, 5, 50, 15), 0.95, 1), (other, 0.5, 1))
    accuracy.add(engine, yolo((BOX, 0.9, 0)))
    metrics = accuracy.metrics()
    assert metrics["baseline_accuracy"] == 1  # the detection in the crowd is neither
    assert metrics["accuracy"] == 0.5  # one class in two
    assert accuracy.interval() is None


def test_frames_that_show_nothing_true_give_no_accuracy():
    comparison = Comparison("detection", None, Decoding(**YOLO), judge([true()] * 5))
    for _ in range(5):
        comparison.add(yolo((BOX, 0.9, 0)), yolo((BOX, 0.9, 0)))
    found = comparison.result()
    assert (found.task.keys(), found.accuracy_ci95) == ({"ap50", "ap50_95"}, None)
    assert found.accuracy_reason == "the labels show no object on the 5 labelled frames"


@pytest.mark.parametrize(
    ("decoding", "scale"),
    [({}, (1, 1)), ({"unit": "fractions"}, (1 / 64, 1 / 32))],
    ids=["pixels", "fractions"],
)
def test_boxes_are_brought_to_pixels_of_the_input(decoding, scale):
    accuracy = judge([true(BOX)], YOLO | decoding)
    outputs = yolo((BOX, 0.9, 0), scale=scale)
    accuracy.add(outputs, outputs)
    assert accuracy.metrics()["accuracy_ap50_95"] == 1


@pytest.mark.parametrize(("middle", "column"), [(False, 4), (True, 3.5)])
def test_cells_are_brought_to_pixels_of_the_input(middle, column):
    """A box of 4 x 4 cells of 4 pixels around column 4, row 3."""
    heat, sizes = np.zeros((1, 1, 8, 16)), np.full((1, 2, 8, 16), 4.0)
    offsets = np.zeros((1, 2, 8, 16))
    row, place = 3, int(column)
    heat[0, 0, row, place] = 0.9
    offsets[0, 0], offsets[0, 1] = column - place - middle / 2 + 0.5 * middle, -middle / 2
    decoding = {
        "kind": "centers", "scores": "h", "sizes": "s", "offsets": "o", "middle": middle,
    }  # fmt: skip
    center_x, center_y = 4 * (column + middle / 2), 4 * row
    truth = true((center_x - 8, center_y - 8, center_x + 8, center_y + 8))
    accuracy = judge([truth], decoding, {0: "face"})
    outputs = {"h": heat, "s": sizes, "o": offsets}
    accuracy.add(outputs, outputs)
    assert accuracy.metrics()["accuracy_ap50_95"] == 1


@pytest.mark.parametrize(
    ("unit", "scale", "said"),
    [
        ("pixels", (1 / 64, 1 / 32), r'unit = "pixels", but the baseline.s boxes reach to 0\.'),
        ("fractions", (1, 1), r'unit = "fractions", but the baseline.s boxes reach to 24'),
    ],
)
def test_another_unit_than_configured_is_noticed(unit, scale, said):
    outputs = yolo((BOX, 0.9, 0), scale=scale)
    with pytest.raises(ConfigError, match=said) as caught:
        judge([true(BOX)], YOLO | {"unit": unit}).add(outputs, outputs)
    assert caught.value.code == "labels"


def ids(label):
    return {"b": np.array([[BOX]]), "s": np.array([[0.9]]), "c": np.array([[label]])}


@pytest.mark.parametrize(
    ("names", "ordered", "decoding", "outputs", "said"),
    [
        (
            TWO,
            True,
            YOLO,
            yolo(classes=3),
            r"2 categories \(0 car, 1 person\).*model has 3 classes",
        ),
        ({7: "bus"}, False, YOLO, yolo(), r"1 categories \(7 bus\).*model has 2 classes"),
        (TWO, True, IDS, ids(2), r"2 categories .*model finds class 2"),
        (dict.fromkeys(range(9), "x"), True, YOLO, yolo(), r"9 categories .*4 x, \.\.\.\)"),
    ],
)
def test_categories_that_are_not_the_classes_of_the_model_are_named(
    names, ordered, decoding, outputs, said
):
    with pytest.raises(ConfigError, match=said) as caught:
        judge([true(BOX)], decoding, names, ordered).add(outputs, outputs)
    assert (caught.value.code, bool(caught.value.hint)) == ("labels", True)


def test_ids_may_have_gaps():
    names = {1: "person", 90: "toothbrush"}
    accuracy = judge([true(BOX, labels=[90])], IDS, names, ordered=False)
    accuracy.add(ids(90), ids(13))
    assert accuracy.metrics()["baseline_accuracy"] == 1
    assert accuracy.metrics()["accuracy"] == 0
