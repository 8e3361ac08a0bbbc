"""True classes: read from a CSV, found by the names of frames, and counted."""

from __future__ import annotations

import numpy as np
import pytest

from agent.core.errors import ConfigError
from agent.core.fidelity.accuracy import labels_of
from agent.core.fidelity.class_accuracy import ClassAccuracy, parse_labels
from agent.core.fidelity.comparison import Comparison


def test_labels_are_read():
    lines = ["frame,label\n", '"a, b.png",0\n', "\n", "clip.avi#12, 7\n", "clip.avi#12,7\n"]
    assert parse_labels(lines) == {"a, b.png": 0, "clip.avi#12": 7}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1 is not the header"),
        ("a.png,1\n", "line 1 is not the header"),
        ("frame,label\na.png\n", "line 2 has 1 cells"),
        ("frame,label\na.png,cat\n", "line 2 has the label 'cat'"),
        ("frame,label\na.png,-1\n", "line 2 has the label '-1'"),
        ("frame,label\na.png,99999999999\n", "line 2 has the label"),
        ("frame,label\n,1\n", "line 2 names no frame"),
        ("frame,label\na.png,1\na.png,2\n", "line 3 gives a.png another label"),
        ('frame,label\n"a.png,1\n', "is not CSV"),
    ],
)
def test_a_bad_line_is_named(text, said):
    with pytest.raises(ConfigError, match=said) as caught:
        parse_labels(text.splitlines(keepends=True))
    assert caught.value.code == "bad_labels"


def test_frames_find_their_labels_and_none_at_all_is_an_error():
    labels = {"a.png": 3, "b.png": 4}
    assert labels_of(["b.png", "c.png", ""], labels, labels) == (4, None, None)
    with pytest.raises(ConfigError, match=r"none of the 2 .*\(c.png, d.png\).*\(a.png, b.png\)"):
        labels_of(["c.png", "d.png"], labels, labels)
    with pytest.raises(ConfigError, match="they have no names"):
        labels_of(["", ""], labels, labels)


def scores(*classes):
    return {"y": np.eye(4)[list(classes)]}


def test_accuracy_of_both_beside_the_agreement():
    labels = (0, None, 1, 2) * 3
    comparison = Comparison("classification", accuracy=ClassAccuracy(labels))
    for _ in range(3):
        for baseline, engine in ((0, 0), (3, 3), (1, 2), (3, 3)):
            comparison.add(scores(baseline), scores(engine))
    found = comparison.result()
    assert found.task == {
        "top1": 0.75,
        "accuracy": pytest.approx(1 / 3),
        "baseline_accuracy": pytest.approx(2 / 3),
    }
    assert (found.agreement, found.labelled) == (0.75, 9)
    assert found.accuracy_reason == ""
    low, high = found.accuracy_ci95
    assert 0.1 < low < 1 / 3 < high < 0.7


def test_frames_of_a_batch_have_their_own_labels():
    comparison = Comparison("classification", accuracy=ClassAccuracy((0, 1, 2, 3)))
    comparison.add(scores(0, 1), scores(0, 1), frames=2)
    comparison.add(scores(3, 3), scores(3, 3), frames=2)
    found = comparison.result()
    assert found.task["accuracy"] == 0.75
    assert found.accuracy_ci95 is None
    assert found.accuracy_reason == "4 labelled frames are too few for an interval"


def test_class_ids_as_outputs_are_classes_too():
    comparison = Comparison("classification", accuracy=ClassAccuracy((7,) * 4))
    for _ in range(4):
        comparison.add({"y": np.array([[7]])}, {"y": np.array([[6]])})
    assert comparison.result().task == {"top1": 0.0, "accuracy": 0.0, "baseline_accuracy": 1.0}


def test_without_labels_there_is_no_accuracy():
    comparison = Comparison("classification")
    for _ in range(4):
        comparison.add(scores(0), scores(0))
    found = comparison.result()
    assert (found.task, found.accuracy_ci95, found.labelled) == ({"top1": 1.0}, None, 0)
    assert found.accuracy_reason == ""


@pytest.mark.parametrize(
    ("outputs", "label", "said"),
    [
        (np.zeros((1, 4)), 4, "contains class 4, but the model has 4 classes"),
        (np.zeros((1, 9, 4)), 1, "shape 1x9x4"),
        (np.zeros((1, 1)), 1, "shape 1x1"),
    ],
)
def test_outputs_without_such_a_class_are_reported(outputs, label, said):
    comparison = Comparison("classification", accuracy=ClassAccuracy((label,)))
    with pytest.raises(ConfigError, match=said) as caught:
        comparison.add({"y": outputs}, {"y": outputs})
    assert (caught.value.code, bool(caught.value.hint)) == ("labels", True)


def test_a_batch_that_can_not_be_split_by_frame_has_no_labels():
    comparison = Comparison("classification", accuracy=ClassAccuracy((1, 1)))
    with pytest.raises(ConfigError, match="batch of 2"):
        comparison.add({"y": np.zeros(4)}, {"y": np.zeros(4)}, frames=2)
