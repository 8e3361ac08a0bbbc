"""Overlap and suppression of boxes, against what can be said without them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.fidelity.detection import Detections, overlaps, suppress
from tests.support.boxes import detections, some_detections


def test_overlap_by_hand():
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 4, 2], [0, 0, 2, 2], [1, 1, 1, 1]], float)
    (first, *_) = overlaps(boxes, boxes)
    assert first.tolist() == pytest.approx([1, 1 / 7, 0, 1, 0])
    assert overlaps(boxes[4:], boxes[4:]) == 0  # a box without an area overlaps nothing
    assert overlaps(np.zeros((0, 4)), boxes).shape == (0, 5)


@given(found=some_detections(), x=st.floats(0.1, 100), y=st.floats(0.1, 100))
def test_overlap_does_not_depend_on_the_unit(found, x, y):
    scale = np.array([x, y, x, y])
    plain, scaled = (overlaps(b, b) for b in (found.boxes, found.boxes * scale + 7 * scale))
    np.testing.assert_allclose(scaled, plain, atol=1e-6)
    assert np.array_equal(plain, plain.T)


@given(found=some_detections(), overlap=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_what_stays_is_apart_and_what_goes_is_like_a_better_one_that_stays(found, overlap):
    kept = suppress(found, overlap, 1000)
    assert (np.diff(kept.scores) <= 0).all()
    same = kept.labels[:, None] == kept.labels[None]
    between = overlaps(kept.boxes, kept.boxes) * same
    np.fill_diagonal(between, 0)
    if overlap < 1:
        assert (between <= overlap).all()
    rows = {row(kept, i) for i in range(len(kept))}
    for index in range(len(found)):
        if row(found, index) not in rows:
            better = (kept.scores >= found.scores[index]) & (kept.labels == found.labels[index])
            shared = overlaps(found.boxes[index : index + 1], kept.boxes[better])
            assert (shared > overlap).any()


def row(found, index):
    return (*found.boxes[index], found.scores[index], found.labels[index])


@given(found=some_detections(), data=st.data(), most=st.integers(1, 9))
def test_the_order_of_boxes_does_not_matter(found, data, most):
    shuffled = found.pick(np.array(data.draw(st.permutations(range(len(found)))), np.intp))
    one, other = suppress(found, 0.4, most), suppress(shuffled, 0.4, most)
    assert len(one) <= most
    for field in ("boxes", "scores", "labels"):
        assert np.array_equal(getattr(one, field), getattr(other, field))


def test_only_boxes_of_a_class_suppress_each_other():
    box = (0, 0, 10, 10)
    found = detections((box, 0.9, 1), (box, 0.8, 2), (box, 0.7, 1))
    assert suppress(found, 0.5, 9).scores.tolist() == [0.9, 0.8]
    assert suppress(found, 1.0, 9).scores.tolist() == [0.9, 0.8, 0.7]
    assert len(suppress(Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)), 0.5, 9)) == 0
