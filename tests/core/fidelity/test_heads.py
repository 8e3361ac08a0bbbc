"""Heads as exporters write them, with objects that the test put there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agent.core.errors import ConfigError
from agent.core.fidelity.box_decoding import decode
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.similarity import masks

CORNERS = np.float32([[10, 20, 30, 60], [50, 20, 90, 60], [11, 21, 30, 60]])
CENTERED = np.float32([[20, 40, 20, 40], [70, 40, 40, 40], [20.5, 40.5, 19, 39]])
SCORES = np.float32([0.9, 0.4, 0.8])
SEPARATE = {"kind": "nms", "boxes": "b", "scores": "s", "labels": "c"}
QUERIES = {
    "kind": "boxes", "boxes": "pred_boxes", "scores": "logits", "format": "cxcywh", "overlap": 1.0,
}  # fmt: skip


def read(outputs, **keys):
    found = decode(outputs, Decoding(**keys), trusted=True)
    return found.boxes.tolist(), found.scores.tolist(), found.labels.tolist()


def rows(*beside, boxes=CORNERS):
    """Return finished rows of the three objects, classes 3, 4 and 3, padded with zeros."""
    found = np.concatenate([boxes, SCORES[:, None], [[3], [4], [3]], *beside], axis=1)
    return np.pad(found, ((0, 4), (0, 0)))[None].astype(np.float32)


def all_three(found):
    boxes, scores, labels = found
    assert boxes == CORNERS[[0, 2, 1]].tolist()
    assert scores == pytest.approx([0.9, 0.8, 0.4])
    return labels == [3, 3, 4]


def test_rows_of_finished_boxes_are_not_suppressed_again():
    assert all_three(read({"output0": rows()}, kind="nms"))
    assert all_three(read({"output0": rows()[0]}, kind="nms"))
    assert all_three(read({"output0": rows(boxes=CENTERED)}, kind="nms", format="cxcywh"))
    assert all_three(read({"output0": rows()}, kind="nms", threshold=0.0))


def test_classes_may_be_an_output_beside_rows_of_box_and_score():
    outputs = {"dets": rows()[..., :5], "labels": rows()[..., 5].astype(np.int64)}
    assert all_three(read(outputs, kind="nms", boxes="dets", labels="labels"))
    angles = np.full((1, 7, 1), 0.0, np.float32)
    centered = np.concatenate([rows(boxes=CENTERED)[..., :5], angles], axis=2)
    keys = {"kind": "nms", "boxes": "dets", "labels": "labels", "rotated": True}
    assert all_three(read(outputs | {"dets": centered}, **keys))


def test_only_counted_rows_are_valid():
    """TensorFlow fills up with boxes that mean nothing."""
    outputs = {
        "detection_boxes": CORNERS[None][:, :, [1, 0, 3, 2]] / 100,
        "detection_scores": SCORES[None],
        "detection_classes": np.float32([[1, 2, 1]]),
        "num_detections": np.float32([2]),
    }
    keys = {
        "kind": "nms", "boxes": "detection_boxes", "scores": "detection_scores",
        "labels": "detection_classes", "format": "yxyx",
    }  # fmt: skip
    boxes, scores, labels = read(outputs, count="num_detections", **keys)
    assert (np.float32(boxes) * 100).tolist() == pytest.approx(CORNERS[:2])
    assert (scores, labels) == (pytest.approx([0.9, 0.4]), [1, 2])
    assert len(read(outputs, **keys)[0]) == 3


@pytest.mark.parametrize("count", [-3e38, -1, 0, 3, 4, 3e38])
def test_a_count_that_an_engine_got_wrong_is_bounded(count):
    outputs = {"b": CORNERS, "s": SCORES, "c": np.zeros(3), "n": np.float32([[count]])}
    found = decode(outputs, Decoding(**SEPARATE, count="n"))
    assert len(found) == min(max(count, 0), 3)


def test_a_detector_may_find_nothing():
    empty = {"b": np.zeros((0, 4)), "s": np.zeros(0), "c": np.zeros(0, np.int64)}
    for outputs, keys in (
        (empty, SEPARATE),
        (empty, SEPARATE | {"labels": ""}),
        (empty, {"kind": "boxes", "boxes": "b", "scores": "s"}),
        (empty | {"s": np.zeros((1, 0, 7))}, {"kind": "boxes", "boxes": "b", "scores": "s"}),
        ({"y": np.zeros((0, 6))}, {"kind": "nms"}),
        ({"y": np.zeros((1, 0, 7))}, {"kind": "nms", "rotated": True}),
    ):
        assert read(outputs, **keys) == ([], [], [])


def test_queries_with_a_sigmoid_and_with_a_softmax():
    odds = np.log(SCORES / (1 - SCORES))
    logits = np.full((1, 3, 5), -9.0)
    logits[0, range(3), [2, 0, 2]] = odds
    outputs = {"logits": logits, "pred_boxes": CENTERED[None] / 100}
    boxes, scores, labels = read(outputs, logits=True, **QUERIES)
    assert np.allclose(np.array(boxes) * 100, CORNERS[[0, 2, 1]])
    assert (scores, labels) == (pytest.approx([0.9, 0.8, 0.4]), [2, 2, 0])

    nothing = np.full((1, 1, 5), 0.0)
    nothing[..., 4] = 9.0  # no object
    classes = np.concatenate([logits, np.zeros((1, 3, 1))], axis=2)[..., [0, 1, 2, 3, 5]]
    outputs = {
        "logits": np.concatenate([classes, nothing], axis=1),
        "pred_boxes": np.concatenate([CENTERED, CENTERED[:1]])[None] / 100,
    }
    _, scores, labels = read(outputs, softmax=True, no_object=True, **QUERIES)
    assert (scores, labels) == (pytest.approx([0.9, 0.8, 0.4], abs=1e-3), [2, 2, 0])


def test_a_raw_ssd_has_its_background_first():
    scores = np.array([[0.0, 5.0, 1.0], [9.0, 0.0, 0.0], [0.0, 0.0, 5.0]])
    keys = {"kind": "boxes", "boxes": "b", "scores": "s", "softmax": True, "background": True}
    _, found, labels = read({"b": CORNERS[None], "s": scores[None]}, overlap=1.0, **keys)
    assert (found, labels) == (pytest.approx([0.987, 0.976], abs=1e-3), [1, 0])


def raw_head(beside, classes=2, objectness=False):
    """Return (1, channels, 40) with the three objects of the last class and what lies beside."""
    head = np.zeros((40, 4 + objectness + classes + beside.shape[1]), np.float32)
    head[:3, :4] = CENTERED
    if objectness:
        head[:3, 4] = 1
    head[:3, 3 + objectness + classes] = SCORES
    head[:3, 4 + objectness + classes :] = beside
    head[3:, 4 + objectness + classes :] = -500  # what lies beside is no score
    return head.T[None]


def prototypes():
    """Return two masks of 20 x 25 cells: the upper half, and everything."""
    found = np.full((1, 2, 20, 25), -1.0, np.float32)
    found[0, 0, :10] = 1
    found[0, 1] = 1
    return found


@pytest.mark.parametrize("objectness", [False, True])
def test_a_segment_head_gives_masks_inside_their_boxes(objectness):
    beside = np.float32([[1, 0], [0, 1], [0, 1]])
    outputs = {"output0": raw_head(beside, objectness=objectness), "output1": prototypes()}
    found = decode(
        outputs, Decoding(kind="yolo", masks="output1", objectness=objectness), trusted=True
    )
    assert found.labels.tolist() == [1, 1]
    upper, whole = found.shapes.reshape(2, 20, 25)
    assert np.argwhere(upper).min(0).tolist() == [5, 2]  # 10 x 20 pixels, 4 to a cell
    assert np.argwhere(upper).max(0).tolist() == [9, 6]
    assert whole.sum() == 10 * 10
    assert whole[5:15, 12:22].all()
    outputs["output0"][:, :4] /= np.float32([100, 80, 100, 80])[:, None]  # 25 x 20 cells of 4
    keys = {"kind": "yolo", "masks": "output1", "objectness": objectness, "unit": "fractions"}
    fractions = decode(outputs, Decoding(**keys), trusted=True)
    assert fractions.shapes[1].tolist() == found.shapes[1].tolist()
    assert masks(fractions, found)[0, 0] > 0.6  # its edges are at the middle of a cell
    finished = {"output0": rows(beside), "output1": prototypes()}
    found = decode(finished, Decoding(kind="nms", masks="output1"), trusted=True)
    assert found.shapes.sum(axis=1).tolist() == [5 * 5, 4 * 10, 100]


@pytest.mark.parametrize("numbers", [2, 3])
def test_a_pose_head_gives_its_points(numbers):
    points = np.arange(3 * 5 * numbers, dtype=np.float32).reshape(3, -1)
    found = decode({"y": raw_head(points, 1)}, Decoding(kind="yolo", keypoints=5), trusted=True)
    assert found.shapes.tolist() == points[:2].tolist()
    found = decode({"y": rows(points)}, Decoding(kind="nms", keypoints=5), trusted=True)
    assert found.shapes.tolist() == points[[0, 2, 1]].tolist()


def test_an_obb_head_gives_rotated_boxes_and_the_upright_ones_around_them():
    angles = np.float32([[0], [np.pi / 2], [0.01]])
    for outputs, kind, count in (
        ({"y": raw_head(angles)}, "yolo", 2),
        ({"y": rows(angles, boxes=CENTERED)}, "nms", 3),
    ):
        found = decode(outputs, Decoding(kind=kind, rotated=True), trusted=True)
        assert len(found) == count
        assert np.allclose(found.boxes[[0, -1]], CORNERS[:2], atol=1e-4)
        assert np.allclose(found.shapes[0], [20, 40, 20, 40, 0])
    tall = np.float32([[0, 0, 10, 2, 0.9, 0, np.pi / 2]])[None]
    found = decode({"y": tall}, Decoding(kind="nms", rotated=True), trusted=True)
    assert found.boxes.tolist() == [pytest.approx([-1, -5, 1, 5])]


def test_rotated_boxes_are_suppressed_by_their_own_overlap():
    """Crossed bars share an upright box, but are two objects."""
    head = np.zeros((1, 40, 6), np.float32)
    head[0, :2, :4] = [50, 50, 80, 4]
    head[0, :2, 4] = [0.9, 0.8]
    head[0, :2, 5] = [np.pi / 4, -np.pi / 4]
    keys = {"kind": "yolo", "rotated": True}
    assert len(decode({"y": head}, Decoding(**keys), trusted=True)) == 2
    head[0, 1, 5] = np.pi / 4 + 0.01
    assert len(decode({"y": head}, Decoding(**keys), trusted=True)) == 1


@pytest.mark.parametrize(
    "beside",
    [np.float32([[-1, 4]] * 3), np.float32([[300, 200, 0.5]] * 3), np.float32([[-0.7]] * 3)],
)
def test_channels_beside_boxes_that_no_key_names_are_noticed(beside):
    with pytest.raises(ConfigError, match=r"not inside 0\.\.1") as caught:
        read({"y": raw_head(beside)}, kind="yolo")
    assert "masks, keypoints or rotated" in caught.value.hint


@given(
    head=hnp.arrays(
        np.float32, (1, 12, 9), elements=st.floats(allow_nan=False, allow_infinity=False, width=32)
    ),
    keys=st.sampled_from(
        [
            {"kind": "yolo", "masks": "m"},
            {"kind": "yolo", "keypoints": 1},
            {"kind": "yolo", "rotated": True},
            {"kind": "nms", "keypoints": 1},
            {"kind": "boxes", "boxes": "b", "scores": "s", "softmax": True, "no_object": True},
            SEPARATE | {"count": "n"},
        ]
    ),
)
def test_any_finite_outputs_of_an_engine_decode(head, keys):
    outputs = {
        "y": head, "b": head[..., :4], "s": head[..., 4] if "labels" in keys else head[..., 4:],
        "c": head[..., 5], "n": head[:, 0, 0], "m": head.reshape(1, 3, 6, 6),
    }  # fmt: skip
    found = decode(outputs, Decoding(threshold=0.0, **keys))
    assert np.isfinite(found.boxes).all()
    assert np.isfinite(found.shapes).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
