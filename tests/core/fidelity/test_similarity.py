"""Similarities of objects: a few by hand, and what must hold for any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.fidelity.detection import Detections, box_overlaps
from agent.core.fidelity.similarity import masks, poses, rotated_boxes


def objects(shapes, boxes=None):
    count = len(shapes)
    boxes = np.tile([0.0, 0, 10, 10], (count, 1)) if boxes is None else np.array(boxes, float)
    return Detections(boxes, np.ones(count), np.zeros(count, np.int64), np.array(shapes))


def alike(one, other, similarity=rotated_boxes):
    return float(similarity(objects([one]), objects([other]))[0, 0])


def test_rotated_boxes_by_hand():
    """The moments of two equal squares differ by their distance only: D = d^2 / 8 / (s^2 / 12)."""
    side, apart = 12.0, 3.0
    expected = 1 - np.sqrt(1 - np.exp(-(apart**2) / 8 / (side**2 / 12)))
    moved = alike([0.0, 0, side, side, 0.3], [apart, 0, side, side, 0.3])
    assert moved == pytest.approx(expected)
    assert alike([0, 0, 80, 4, 0.7], [0, 0, 80, 4, 0.7]) == pytest.approx(1, abs=1e-6)
    assert alike([0, 0, 80, 4, 0.0], [0, 0, 4, 80, np.pi / 2]) == pytest.approx(1, abs=1e-6)
    assert alike([0, 0, 80, 4, np.pi / 4], [0, 0, 80, 4, -np.pi / 4]) < 0.1
    assert alike([0, 0, 8, 4, 0.0], [900, 0, 8, 4, 0.0]) == 0


@given(
    boxes=st.lists(
        st.tuples(
            *[st.floats(-1e9, 1e9)] * 2, *[st.floats(1e-6, 1e9)] * 2, st.floats(-1e9, 1e9)
        ),
        min_size=2, max_size=2,
    ),
    moved=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
)  # fmt: skip
def test_rotated_overlap_is_symmetric_and_inside_0_and_1(boxes, moved):
    one, other = boxes
    share = alike(one, other)
    assert 0 <= share <= 1
    assert alike(other, one) == pytest.approx(share, abs=1e-6)
    near = [*np.clip(one[:4], [-500, -500, 1, 1], 500), one[4]]
    assert alike(near, near) == pytest.approx(1, abs=1e-4)
    shifted = [near[0] + moved[0], near[1] + moved[1], *near[2:]]
    assert alike(near, shifted) <= 1


def test_masks_by_hand():
    found = masks(objects([[True, True, False, False]]), objects([[False, True, True, False]] * 2))
    assert found.tolist() == [[pytest.approx(1 / 3)] * 2]
    tiny, other = objects([[False]], [[0, 0, 2, 1]]), objects([[False]], [[0, 0, 1, 1]])
    assert masks(tiny, other).tolist() == [[0.5]]
    assert masks(tiny, objects([[True]], [[0, 0, 2, 1]])).tolist() == [[0]]


def test_poses_by_hand():
    """A point off by a tenth of the object's side counts for e^-0.5."""
    still = objects([[2.0, 2, 5, 5]])
    moved = objects([[2.0, 3, 5, 5]])
    assert poses(still, still, 2).tolist() == [[1]]
    assert poses(moved, still, 2)[0, 0] == pytest.approx((1 + np.exp(-0.5)) / 2)
    hidden = objects([[2.0, 2, 0.1, 5, 5, 0.9]])
    other = objects([[900.0, 2, 0.9, 5, 5, 0.9]])
    assert poses(other, hidden, 2).tolist() == [[1]]  # FP32 does not see that point
    assert poses(hidden, other, 2)[0, 0] == pytest.approx(0.5)
    elsewhere = objects([[2.0, 2, 5, 5]], boxes=[[5, 0, 15, 10]])
    assert poses(elsewhere, still, 2) == box_overlaps(elsewhere, still)


def test_nothing_is_similar_to_nothing():
    none = objects(np.zeros((0, 6)), boxes=np.zeros((0, 4)))
    for similarity in (masks, lambda one, other: poses(one, other, 2)):
        assert similarity(none, objects(np.zeros((2, 6)))).shape == (0, 2)
    none = objects(np.zeros((0, 5)), boxes=np.zeros((0, 4)))
    assert rotated_boxes(none, objects(np.ones((2, 5)))).shape == (0, 2)
