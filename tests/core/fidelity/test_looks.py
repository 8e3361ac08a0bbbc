"""One frame under several choices of pixels."""

from __future__ import annotations

import numpy as np

from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.looks import looks
from agent.core.fidelity.results import FrameSize
from agent.core.fidelity.task import Task
from agent.core.frames.input_spec import InputSpec

FRAME = FrameSize(width=64, height=32)
SPEC = InputSpec(width=32, height=32)


def shown(task: Task, **found: np.ndarray):
    outputs = {name: {"y": values} for name, values in found.items()}
    return looks(outputs, task, dict.fromkeys(found, SPEC), FRAME)


def test_each_choice_has_what_is_found_under_it():
    task = Task(kind="classification", names=("cat", "dog"))
    one, other = shown(task, a=np.float32([[3, 1]]), b=np.float32([[1, 3]]))
    assert (one.frame, one.words, one.width) == ("a", "a", 64)
    assert one.views["found"].findings[0].name == "cat"
    assert other.views["found"].findings[0].name == "dog"


def test_a_foreground_is_cut_at_one_half_if_all_choices_give_probabilities():
    task = Task(kind="segmentation")
    half = np.full((1, 1, 32, 32), 0.4, np.float32)
    half[..., :16] = 0.6
    (one,) = shown(task, a=half)
    assert "50%" in one.views["found"].findings[0].name
    logits = [10 * half - 5, half]
    one, other = shown(task, a=logits[0], b=logits[1])
    assert "50%" in one.views["found"].findings[0].name
    assert "100%" in other.views["found"].findings[0].name


def test_what_can_not_be_drawn_is_in_words():
    (one,) = shown(Task(kind="generic"), a=np.float32([[-1, 2]]))
    assert (one.words, one.views) == ("a: outputs y from -1 to 2", {})
    task = Task(kind="detection", decoding=Decoding(kind="yolo"))
    (one,) = shown(task, a=np.full((1, 6, 4), np.nan, np.float32))
    assert one.views == {}
    assert one.words.startswith("a: ")
