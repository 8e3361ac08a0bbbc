"""Two engines on holdout frames, one frame or a batch at a time."""

from __future__ import annotations

import numpy as np
import pytest

from agent.core.errors import RunnerError
from agent.core.fidelity.comparison import Comparison
from agent.core.fidelity.results import FrameSize
from agent.core.fidelity.scenes import Gallery
from agent.core.fidelity.task import Task
from agent.core.frames.input_spec import InputSpec
from agent.stages.show import show
from tests.fakes.runners import FakeClock, FakeRunner

SIZE = FrameSize(width=8, height=6)
TASK = Task(kind="classification", names=("a", "b"))


def shown(batches, *functions):
    steps: list[tuple[int, int, str]] = []
    ids = ("fp32", "int8")[: len(functions)]
    gallery = Gallery(
        TASK,
        InputSpec(width=8, height=6),
        ids[0],
        ids[1] if len(ids) > 1 else None,
        lambda: Comparison("classification"),
    )
    found = show(
        gallery,
        batches,
        make_runners=[
            lambda one=one: FakeRunner(FakeClock(), function=one, name="x") for one in functions
        ],
        progress=lambda *step: steps.append(step),
    )
    assert [done for done, *_ in steps] == list(range(1, len(batches) + 1))
    return found


def same(inputs):
    return {"y": inputs["x"]}


def turned(inputs):
    return {"y": inputs["x"][:, ::-1]}


def test_frames_of_a_batch_are_shown_one_by_one():
    names = [("1.png", SIZE), ("2.png", SIZE)]
    scores = {"x": np.float32([[0.9, 0.1], [0.2, 0.8]])}
    first, second = shown([(names, scores)], same, turned)
    assert (first.frame, second.frame) == ("1.png", "2.png")
    assert [view.findings[0].name for view in first.views.values()] == ["a", "b"]
    assert [view.findings[0].name for view in second.views.values()] == ["b", "a"]


def test_a_baseline_that_is_chosen_itself_is_shown_alone():
    (scene,) = shown([([("1.png", SIZE)], {"x": np.float32([[0.9, 0.1]])})], same)
    assert list(scene.views) == ["fp32"]


def test_outputs_that_are_not_by_frame_can_not_be_shown():
    names = [("1.png", SIZE), ("2.png", SIZE)]
    with pytest.raises(RunnerError) as caught:
        shown([(names, {"x": np.float32([[0.9, 0.1]])})], same)
    assert caught.value.code == "outputs"
