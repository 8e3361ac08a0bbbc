"""What a model sees, in pixels of the frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.errors import RunnerError
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.results import Classes, ClassMap, FrameSize, Objects, result_of
from agent.core.fidelity.task import Task
from agent.core.frames.input_spec import InputSpec
from agent.core.frames.preprocess import placed, placement, unplaced

BOX = InputSpec(width=64, height=48, resize="letterbox")
STRETCH = replace(BOX, resize="stretch")
FRAME = FrameSize(width=128, height=48)  # half as large in BOX, 12 px of padding above and below
NAMES = ("cat", "dog")
ROWS = Decoding(kind="nms")


def detected(rows, spec=BOX, how=ROWS, **outputs) -> Objects:
    head = np.array([rows], np.float32).reshape(1, len(rows), -1)
    task = Task(kind="detection", decoding=how, names=NAMES)
    found = result_of({"rows": head, **outputs}, task, spec, FRAME)
    assert isinstance(found, Objects)
    return found


sides = st.integers(1, 400)


@given(sides, sides, sides, sides, st.sampled_from(["letterbox", "stretch"]), st.booleans())
def test_there_and_back(width, height, w, h, resize, centered):
    spec = InputSpec(width=w, height=h, resize=resize, centered=centered)
    box = np.array([[0.25 * width, 0.0, width, 0.75 * height]])
    back = unplaced(placed(box, spec, width, height).reshape(-1, 2, 2), spec, width, height)
    assert back.reshape(-1, 4) == pytest.approx(box)
    at = placement(spec, width, height)
    assert min(at.left, at.top) >= 0
    assert at.left + at.width <= w
    assert at.top + at.height <= h


def test_boxes_are_in_the_frame_with_their_names():
    found = detected([[10, 14, 20, 24, 0.9, 1], [-50, -50, 90, 90, 0.5, 7], [0, 0, 9, 9, 0.1, 0]])
    assert found.boxes.tolist() == [[20, 4, 40, 24], [0, 0, 128, 48]]
    assert found.names == ("dog", "7")
    assert found.scores == pytest.approx([0.9, 0.5])
    assert (found.corners, found.points, found.masks) == (None, None, None)


def test_fractions_are_those_of_the_models_input():
    how = replace(ROWS, unit="fractions")
    found = detected([[0.25, 0.25, 0.5, 0.75, 0.9, 0]], how=how)
    assert found.boxes.tolist() == [[32, 0, 64, 48]]
    found = detected([[0.25, 0.25, 0.5, 0.75, 0.9, 0]], STRETCH, how)
    assert found.boxes.tolist() == [[32, 12, 64, 36]]


def test_cells_of_heat_maps_are_in_the_frame():
    heat = np.zeros((1, 1, 12, 16), np.float32)
    heat[0, 0, 6, 8] = 0.9
    sizes = np.full((1, 2, 12, 16), 2, np.float32)
    how = Decoding(kind="centers", scores="heat", sizes="sizes")
    task = Task(kind="detection", decoding=how)
    found = result_of({"heat": heat, "sizes": sizes}, task, BOX, FRAME)
    assert found.boxes.tolist() == [[56, 16, 72, 32]]  # 4 px a cell, twice as large in the frame


def test_a_rotated_box_has_its_corners_in_order():
    how = replace(ROWS, rotated=True)
    found = detected([[32, 24, 8, 4, 0.9, 0, np.pi / 2]], how=how)
    assert found.corners[0] == pytest.approx(
        np.array([[68, 16], [68, 32], [60, 32], [60, 16]]), abs=1e-4
    )
    assert found.boxes[0] == pytest.approx([60, 16, 68, 32], abs=1e-4)
    assert detected([[32, 24, 8, 4, 0.0, 0, 0]], how=how).corners.shape == (0, 4, 2)


@pytest.mark.parametrize("numbers", [2, 3])
def test_points_keep_their_visibility(numbers):
    how = replace(ROWS, keypoints=2)
    points = [[32, 24, 0.5][:numbers], [0, 12, 0.25][:numbers]]
    row = [10, 14, 20, 24, 0.9, 0, *points[0], *points[1]]
    found = detected([row], how=how)
    assert found.points[0, :, :2].tolist() == [[64, 24], [0, 0]]
    assert found.points.shape == (1, 2, numbers)
    if numbers == 3:
        assert found.points[0, :, 2].tolist() == [0.5, 0.25]
    row[4] = 0
    assert detected([row], how=how).points.shape == (0, 2, numbers)


def test_a_mask_is_made_in_the_size_of_the_frame():
    how = replace(ROWS, boxes="rows", masks="prototypes")
    prototypes = np.ones((1, 1, 12, 16), np.float32)
    found = detected([[0, 12, 32, 24, 0.9, 0, 1.0]], how=how, prototypes=prototypes)
    assert len(found.masks) == 1
    expected = np.zeros((48, 128), bool)
    expected[:24, :64] = True
    assert (found.masks[0] == expected).all()
    assert len(detected([[0, 12, 32, 24, 0.0, 0, 1.0]], how=how, prototypes=prototypes).masks) == 0


def classified(output, **task) -> Classes:
    found = result_of({"y": output}, Task(kind="classification", **task), BOX, FRAME)
    assert isinstance(found, Classes)
    return found


def test_the_best_classes_come_first():
    scores = np.array([[0.1, 0.5, 0.2, 0.0, -1.0, 3.0, 2.0]], np.float32)
    for output in (scores, scores.reshape(1, 7, 1, 1)):
        found = classified(output, names=NAMES)
        assert found.labels.tolist() == [5, 6, 1, 2, 0]
        assert found.scores == pytest.approx([3, 2, 0.5, 0.2, 0.1])
        assert found.names == ("5", "6", "dog", "2", "cat")


def test_rows_of_a_sequence_stay_apart():
    found = classified(np.array([[[0.1, 0.9], [0.8, 0.2]]], np.float32))
    assert found.labels.tolist() == [[1, 0], [0, 1]]


def test_a_score_that_stands_alone_is_counted_as_it_was_judged():
    score = np.array([[0.3]], np.float32)
    assert classified(score, threshold=0.5, names=NAMES).names == ("cat",)
    assert classified(score, threshold=0.0, names=NAMES).names == ("dog",)
    with pytest.raises(RunnerError, match="no threshold"):
        classified(score)
    ids = classified(np.array([[7]]))
    assert (ids.labels.tolist(), ids.scores) == ([7], None)


def mapped(output, spec=BOX, **task) -> ClassMap:
    found = result_of({"y": output}, Task(kind="segmentation", **task), spec, FRAME)
    assert isinstance(found, ClassMap)
    assert found.labels.shape == (48, 128)
    return found


def test_each_pixel_has_the_class_of_its_cell():
    scores = np.zeros((1, 3, 12, 16), np.float32)
    scores[0, 2, 3:6] = 1  # the upper half of the picture in its letterbox
    scores[0, 1, :3] = 1  # padding
    for output in (scores, np.moveaxis(scores, 1, 3)):
        found = mapped(output, names=("wall", "sky", "road"))
        assert (found.labels[:24] == 2).all()
        assert (found.labels[24:] == 0).all()
        assert found.names == {0: "wall", 2: "road"}
    assert (mapped(scores, STRETCH).labels[:12] == 1).all()


@pytest.mark.parametrize("shape", [(1, 1, 12, 16), (1, 12, 16), (1, 12, 16, 1), (12, 16)])
def test_a_foreground_has_the_threshold_with_which_it_was_judged(shape):
    values = np.full((12, 16), 0.3, np.float32)
    values[3:6] = 0.6
    found = mapped(values.reshape(shape), threshold=0.5)
    assert (found.labels[:24] == 1).all()
    assert (found.labels[24:] == 0).all()
    assert (mapped(values.reshape(shape), threshold=0.0).labels == 1).all()
    ids = mapped((values * 10).astype(np.int64).reshape(shape))
    assert set(ids.names) == {3, 6}


def test_what_is_no_map_is_refused():
    with pytest.raises(RunnerError, match=r"\[2, 12, 16\] is no map"):
        mapped(np.zeros((2, 12, 16), np.float32), threshold=0.5)


def test_outputs_of_other_tasks_are_given_as_they_are():
    outputs = {"a": np.zeros(3), "b": np.ones(2)}
    for kind in ("generic", "detection", "metrics:mine"):
        assert result_of(outputs, Task(kind=kind), BOX, FRAME) == outputs
