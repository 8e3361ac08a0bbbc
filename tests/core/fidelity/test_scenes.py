"""Frames that are shown: what is found on them in their own pixels, in words, and which they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.fidelity.comparison import Comparison
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.results import FrameSize
from agent.core.fidelity.scenes import SHOWN, Gallery, picked_frames
from agent.core.fidelity.task import Task
from agent.core.frames.input_spec import InputSpec

FRAME = FrameSize(width=200, height=100)
BOXES = Task(kind="detection", decoding=Decoding(kind="nms"), names=("person", "car"))


def rows(*found: list[float]) -> dict[str, Any]:
    return {"out": np.array([found], np.float32)}


def only_scene(task: Task, *outputs: dict[str, Any], spec=None, comparison=None):
    gallery = Gallery(
        task,
        spec or InputSpec(width=100, height=100),
        "fp32",
        "int8" if len(outputs) > 1 else None,
        comparison or (lambda: Comparison(task.kind)),
    )
    gallery.add("1.png", FRAME, outputs)
    (scene,) = gallery.shown()
    assert (scene.frame, scene.width, scene.height) == ("1.png", 200, 100)
    return scene


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (rows([10, 10, 30, 30, 0.8, 0]), "fp32 1 box, int8 1, worst IoU 1.00"),
        (rows([10, 10, 30, 20, 0.8, 0]), "fp32 1 box, int8 1, worst IoU 0.50"),
        (rows([10, 10, 30, 30, 0.8, 1]), "fp32 1 box, int8 1, 1 lost, 1 invented"),
        (rows([10, 10, 30, 30, 0.1, 0]), "fp32 1 box, int8 0, 1 lost"),
        (
            rows([10, 10, 30, 30, 0.8, 0], [50, 50, 70, 70, 0.7, 0]),
            "fp32 1 box, int8 2, worst IoU 1.00, 1 invented",
        ),
    ],
)
def test_boxes_are_counted_and_compared(engine, words):
    assert only_scene(BOXES, rows([10, 10, 30, 30, 0.9, 0]), engine).words == words


def test_boxes_are_in_pixels_of_the_frame_with_the_names_of_their_classes():
    letterbox = InputSpec(width=100, height=100, resize="letterbox")  # the frame is at y 25 to 75
    seen = rows([10, 35, 30, 55, 0.9, 1])
    scene = only_scene(BOXES, seen, seen, spec=letterbox)
    assert list(scene.views) == ["fp32", "int8"]
    (box,) = scene.views["int8"].findings
    assert (box.name, box.box) == ("car", ((20, 20), (60, 20), (60, 60), (20, 60)))
    assert box.score == pytest.approx(0.9)


def test_a_class_without_a_name_has_its_number():
    seen = rows([10, 35, 30, 55, 0.9, 7])
    assert only_scene(BOXES, seen, seen).views["fp32"].findings[0].name == "class 7"


def test_many_boxes_are_counted_and_only_the_best_are_drawn():
    many = rows(*([10 + n, 10, 30 + n, 30, 0.9 - n / 100, 0] for n in range(40)))
    view = only_scene(BOXES, many, many).views["fp32"]
    assert (view.count, len(view.findings)) == (40, 20)
    assert view.findings[0].score == pytest.approx(0.9)


def test_masks_are_outlined_where_they_are_on_the_frame():
    task = Task(kind="detection", decoding=Decoding(kind="nms", masks="proto", stride=10))
    seen = rows([20, 30, 60, 80, 0.9, 0, 1.0]) | {"proto": np.ones((1, 1, 10, 10), np.float32)}
    scene = only_scene(task, seen, seen)
    assert scene.words == "fp32 1 mask, int8 1, worst IoU 1.00"
    mask = scene.views["fp32"].findings[0].mask
    assert mask == "M50,30 110,30 120,35 120,75 110,80 50,80 40,75 40,35Z"


def test_key_points_are_shown_where_the_model_calls_them_visible():
    task = Task(kind="detection", decoding=Decoding(kind="nms", keypoints=2))
    seen = rows([10, 10, 30, 30, 0.9, 0, 15, 20, 0.9, 25, 20, 0.1])
    scene = only_scene(task, seen, seen)
    assert scene.words == "fp32 1 pose, int8 1, worst likeness 1.00"
    assert scene.views["fp32"].findings[0].points == ((30, 20),)


def test_a_rotated_box_is_drawn_rotated():
    task = Task(kind="detection", decoding=Decoding(kind="nms", rotated=True))
    seen = rows([50, 50, 40, 40, 0.9, 0, np.pi / 4])
    box = only_scene(task, seen, seen).views["fp32"].findings[0].box
    middle, reach = np.mean(box, axis=0), np.ptp(box, axis=0)
    assert np.allclose(middle, (100, 50), atol=0.1)
    assert np.allclose(reach, (80 * 2**0.5, 40 * 2**0.5), atol=0.3)


@pytest.mark.parametrize(
    ("engine", "words"), [([0.1, 0.6, 0.3], "the same class"), ([0.5, 0.4, 0.1], "another class")]
)
def test_a_classifiers_best_classes_are_named(engine, words):
    task = Task(kind="classification", names=("cat", "dog"))
    scene = only_scene(task, {"out": np.float32([[0.2, 0.7, 0.1]])}, {"out": np.float32([engine])})
    assert scene.words == words
    assert [one.name for one in scene.views["fp32"].findings] == ["dog", "cat", "class 2"]


def test_a_foreground_is_outlined_and_its_share_is_named():
    task = Task(kind="segmentation", threshold=0.5)
    first, second = np.zeros((2, 1, 1, 10, 10), np.float32)
    first[..., 2:6] = 0.9
    second[..., 2:5] = 0.9
    scene = only_scene(task, {"out": first}, {"out": second})
    assert scene.words == "IoU 0.75"
    (shown,) = scene.views["fp32"].findings
    assert shown.name == "foreground 40%"
    assert shown.mask.startswith("M")


def test_many_classes_on_a_large_frame_are_compared_at_once():
    ids = np.random.default_rng(0).integers(0, 4000, (1, 200, 200))
    gallery = Gallery(
        Task(kind="segmentation"), InputSpec(width=200, height=200), "fp32", "int8",
        lambda: Comparison("segmentation"),
    )  # fmt: skip
    gallery.add("1.png", FrameSize(width=8000, height=4000), [{"out": ids}, {"out": ids}])
    (scene,) = gallery.shown()
    assert (scene.words, scene.width) == ("mean IoU 1.00", 8000)
    assert len(scene.views["int8"].findings) == 6


def test_of_several_classes_the_largest_is_no_outline_unless_a_background_is_named():
    scores = np.zeros((1, 3, 10, 10), np.float32)
    scores[:, 0] = 0.5
    scores[:, 1, :, :4] = 0.9
    outputs = ({"out": scores}, {"out": scores})
    road, car = (
        only_scene(Task(kind="segmentation", names=("road", "car")), *outputs)
        .views["fp32"]
        .findings
    )
    assert (road.name, road.mask, car.name) == ("road 60%", "", "car 40%")
    assert car.mask
    (car,) = (
        only_scene(Task(kind="segmentation", names=("background", "car")), *outputs)
        .views["fp32"]
        .findings
    )
    assert car.name == "car 40%"


def test_outputs_without_a_meaning_are_compared_by_sqnr_or_the_users_metric():
    first, second = {"out": np.ones((1, 100))}, {"out": np.full((1, 100), 1.1)}
    scene = only_scene(Task(kind="generic"), first, second)
    assert (scene.words, scene.views) == ("SQNR 20.0 dB", {})
    assert only_scene(Task(kind="generic"), first, first).words == "the same outputs"
    own = Task(kind="mine:metric")
    scene = only_scene(own, first, second, comparison=lambda: Comparison(own.kind, lambda *_: 0.25))
    assert scene.words == "agreement 0.250"


def test_the_baseline_alone_is_compared_with_nothing():
    scene = only_scene(BOXES, rows([10, 10, 30, 30, 0.9, 0], [50, 50, 70, 70, 0.8, 0]))
    assert (scene.words, list(scene.views)) == ("fp32 2 boxes, nothing beside it", ["fp32"])


def test_the_worst_frame_is_shown_and_the_others_are_spread_over_those_with_something():
    distances = [0.0] * 20
    distances[5] = 0.4
    seen = [True] * 20
    seen[19] = False
    assert picked_frames(distances, seen) == [0, 5, 11, 18]
    assert picked_frames(distances, [False] * 5 + [True] + [False] * 14) == [0, 5, 12, 19]
    assert picked_frames([], []) == []


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40))
def test_frames_with_something_come_first_and_none_is_shown_twice(frames):
    distances, seen = [one for one, _ in frames], [one for _, one in frames]
    found = picked_frames(distances, seen)
    assert found == sorted(set(found))
    assert len(found) == min(SHOWN, len(frames))
    if frames:
        assert max(distances) in [distances[one] for one in found]
        nothing = [one for one in found if not seen[one]]
        assert len(nothing) <= 1 or all(index in found for index, one in enumerate(seen) if one)
