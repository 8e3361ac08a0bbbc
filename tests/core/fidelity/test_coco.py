"""Average precision against that of pycocotools, the evaluation code of COCO."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.fidelity.average_precision import AveragePrecision
from agent.core.fidelity.detection import Detections
from tests.support.boxes import detections, some_detections

Frame = tuple[Detections, Detections, list[bool]]


def ours(frames: list[Frame]) -> dict[str, float]:
    precision = AveragePrecision(pooled=False)
    for found, truth, crowd in frames:
        precision.add(found, truth, np.array(crowd, bool))
    return precision.metrics()


def as_coco(one: Detections, image: int, **more) -> list[dict]:
    """Return annotations; more are lists with a value for each box."""
    found = []
    for index, (left, top, right, bottom) in enumerate(one.boxes.tolist()):
        width, height = right - left, bottom - top
        found.append(
            {
                "image_id": image,
                "category_id": int(one.labels[index]),
                "bbox": [left, top, width, height],
                "area": width * height,
                **{key: values[index] for key, values in more.items()},
            }
        )
    return found


def theirs(frames: list[Frame]) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    true, found = [], []
    for image, (seen, truth, crowd) in enumerate(frames):
        true += as_coco(truth, image, iscrowd=[int(one) for one in crowd])
        found += as_coco(seen, image, score=seen.scores.tolist())
    for number, one in enumerate(true, start=1):
        one["id"] = number
    if not found:
        return {"ap50": 0.0, "ap50_95": 0.0} if any(not one["iscrowd"] for one in true) else {}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image} for image in range(len(frames))],
            "categories": [{"id": number} for number in range(5)],
            "annotations": true,
        }
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    mean, at_50 = judge.stats[:2]
    return {} if mean < 0 else {"ap50": at_50, "ap50_95": mean}


@st.composite
def frames_with_crowds(draw: st.DrawFn) -> list[Frame]:
    """Return frames whose boxes are near true ones, with ties of scores and of overlaps."""
    frames = []
    for _ in range(draw(st.integers(1, 4))):
        truth = draw(some_detections(6))
        crowd = draw(st.lists(st.booleans(), min_size=len(truth), max_size=len(truth)))
        found = draw(some_detections(8))
        near = truth.boxes + draw(st.sampled_from([0.0, 0.25, 0.5])) * np.array([0, 0, 1, 1])
        scores = draw(
            st.lists(
                st.sampled_from([0.2, 0.5, 0.9]) | st.floats(0.1, 1),
                min_size=len(truth),
                max_size=len(truth),
            )
        )
        found = Detections(
            np.concatenate([found.boxes, near]),
            np.concatenate([found.scores, scores]),
            np.concatenate([found.labels + draw(st.integers(0, 2)), truth.labels]),
        )
        frames.append((found, truth, crowd))
    return frames


@given(frames=frames_with_crowds())
def test_it_is_that_of_coco(frames):
    assert ours(frames) == pytest.approx(theirs(frames), abs=1e-6)


@given(seed=st.integers(0, 2**32 - 1), most=st.sampled_from([150, 400]))
def test_only_the_best_hundred_of_a_class_count_on_a_frame(seed, most):
    source = np.random.default_rng(seed)
    frames = []
    for _ in range(2):
        corner = source.integers(0, 20, (most, 2))
        boxes = np.concatenate([corner, corner + source.integers(2, 6, (most, 2))], 1).astype(float)
        scores = source.integers(1, 50, most) / 50
        found = Detections(boxes, scores, source.integers(0, 2, most))
        few = np.arange(20)
        truth = Detections(boxes[few] + [0, 0, 0, 0.5], scores[few], found.labels[few])
        frames.append((found, truth, (source.random(20) < 0.2).tolist()))
    assert ours(frames) == pytest.approx(theirs(frames), abs=1e-6)


def test_classes_without_a_true_box_do_not_count():
    box = (0, 0, 10, 10)
    truth = detections((box, 1, 0))
    found = detections((box, 0.5, 0), (box, 0.9, 1))
    frames = [(found, truth, [False])]
    assert ours(frames) == {"ap50": 1, "ap50_95": 1} == pytest.approx(theirs(frames))


def test_a_detection_in_a_crowd_is_neither_right_nor_wrong():
    crowd, one = (0, 0, 100, 100), (200, 0, 210, 10)
    truth = detections((one, 1, 0), (crowd, 1, 0))
    inside = [((x, 0, x + 10, 10), 0.9, 0) for x in (0, 20, 40)]
    frames = [(detections((one, 0.5, 0), *inside), truth, [False, True])]
    assert ours(frames) == {"ap50": 1, "ap50_95": 1} == pytest.approx(theirs(frames))
    assert ours([(detections(*inside), detections((crowd, 1, 0)), [True])]) == {}


def test_of_equal_overlaps_the_last_true_box_is_taken():
    left, right = ((0, 0, 10, 10), 1, 0), ((2, 0, 12, 10), 1, 0)
    between, lower = ((1, 0, 11, 10), 0.9, 0), ((0, 0, 10, 9), 0.5, 0)
    frames = [(detections(between, lower), detections(left, right), [False, False])]
    assert ours(frames) == pytest.approx(theirs(frames))
    swapped = [(detections(between, lower), detections(right, left), [False, False])]
    assert ours(swapped)["ap50_95"] < ours(frames)["ap50_95"]
