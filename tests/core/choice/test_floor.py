"""No default configuration lets an engine below the fidelity floor be chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agent.config.tables import Config, Decode, Limits, Model, ModelTask
from agent.core.choice.choose import choose
from agent.core.choice.limits import loosened
from agent.core.fidelity.comparison import Comparison
from agent.core.records import Floor
from tests.support.candidates import candidate, evaluation, measurement
from tests.support.reports import report_of

RNG = np.random.default_rng(16)
FRAMES = 16


def a_user_metric(expected, seen):
    return float(np.mean(np.sign(expected["y"]) == np.sign(seen["y"])))


def head(shown):
    """Return a YOLO head: four boxes, their scores in `shown` of three classes."""
    found = np.full((1, 7, 40), 1e-4, np.float32)
    found[0, :4] = RNG.uniform(20, 300, (4, 40))
    for cell in range(4):
        found[0, :4, cell] = [60 + 100 * cell, 100, 50, 50]
        found[0, 4 + cell % 3, cell] = shown
    return {"y": found}


def rows(shown):
    """Return finished boxes: four in `shown`, and what is left of 40 rows."""
    head_of_four = head(shown)["y"][0].T
    boxes, scores = head_of_four[:, :4], head_of_four[:, 4:].max(axis=1, keepdims=True)
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    return {"y": np.concatenate([corners, scores, np.zeros_like(scores)], axis=1)[None]}


def masks(shown):
    """Return a YOLO head with one mask coefficient, and the prototype that it is of."""
    found = head(shown)["y"]
    prototype = RNG.uniform(0.1, 1, (1, 1, 80, 120)).astype(np.float32)
    return {"y": np.concatenate([found, np.ones_like(found[:, :1])], axis=1), "m": prototype}


def logits():
    return {"y": RNG.standard_normal((1, 12)).astype(np.float32)}


def mask():
    return {"y": RNG.uniform(0, 1, (1, 1, 12, 16)).astype(np.float32)}


def shuffled(outputs):
    return {"y": RNG.permutation(outputs["y"].ravel()).reshape(outputs["y"].shape)}


def without_scores(outputs):
    seen = outputs["y"].copy()
    seen[:, 4:] = 0
    return {"y": seen}


def without_masks(outputs):
    return outputs | {"m": -outputs["m"]}


def without_row_scores(outputs):
    seen = outputs["y"].copy()
    seen[..., 4] = 0
    return {"y": seen}


YOLO = Decode(kind="yolo")
TASKS = {
    "generic": (ModelTask(), lambda: head(0.8), without_scores),
    "detection without a decoder": (
        ModelTask(kind="detection"), lambda: head(0.8), without_scores,
    ),
    "detection": (ModelTask(kind="detection", decode=YOLO), lambda: head(0.8), without_scores),
    "detection of finished boxes": (
        ModelTask(kind="detection", decode=Decode(kind="nms")),
        lambda: rows(0.8),
        without_row_scores,
    ),
    "detection with masks": (
        ModelTask(kind="detection", decode=Decode(kind="yolo", masks="m")),
        lambda: masks(0.8),
        without_masks,
    ),
    "classification": (ModelTask(kind="classification"), logits, shuffled),
    "segmentation": (ModelTask(kind="segmentation"), mask, shuffled),
    "a user's metric": (ModelTask(kind="mine:metric"), logits, shuffled),
}  # fmt: skip


def config_of(task, **limits):
    return Config(model=Model(task=task), limits=Limits(**limits))


def found_by(task, outputs, spoiled):
    """Return FP32 and a faster engine with spoiled outputs, as the chain gives them."""
    metric = a_user_metric if ":" in task.kind else None
    comparison = Comparison(task.kind, metric, task.decoding)
    for _ in range(FRAMES):
        expected = outputs()
        comparison.add(expected, spoiled(expected))
    judged = replace(evaluation(), fidelity=comparison.result(), identical=comparison.identical)
    return [
        candidate("fp32", measurement(30.0), evaluation(None)),
        candidate("int8", measurement(10.0), judged),
    ]


@pytest.mark.parametrize(("task", "outputs", "spoiled"), TASKS.values(), ids=TASKS)
def test_a_bad_engine_is_never_chosen_by_default(task, outputs, spoiled):
    found = found_by(task, outputs, spoiled)
    choice = choose(found, config_of(task).requirements)
    assert choice.candidate == "fp32"
    (reason,) = choice.verdicts["int8"].reasons
    assert ("agreement" if task.has_metric else "SQNR") in reason
    assert "floor" not in choice.why


@pytest.mark.parametrize(("task", "outputs", "spoiled"), TASKS.values(), ids=TASKS)
def test_where_the_floor_is_off_the_headline_says_what_the_engine_does(task, outputs, spoiled):
    found = found_by(task, outputs, spoiled)
    key = "agreement" if task.has_metric else "sqnr_db"
    requirements = config_of(task, **{key: 0.0}).requirements
    choice = choose(found, requirements)
    assert choice.candidate == "int8"
    does = found[1].evaluation.fidelity.summary
    assert does
    assert choice.why.endswith(f"; no fidelity floor (limits.{key} = 0): it {does}")
    assert choice.why.endswith("SQNR") != task.has_metric
    assert requirements.floor == Floor(limit=key, bound=0.0, default=False)


@pytest.mark.parametrize(("task", "outputs", "spoiled"), TASKS.values(), ids=TASKS)
def test_a_faithful_engine_is_chosen_by_default(task, outputs, spoiled):
    found = found_by(
        task, outputs, lambda one: {key: value * np.float32(1 + 1e-5) for key, value in one.items()}
    )
    assert choose(found, config_of(task).requirements).candidate == "int8"


def test_the_tasks_own_words_are_of_what_is_seen():
    def half(outputs):
        seen = outputs["y"].copy()
        seen[:, 4:, 1:] = 0
        return {"y": seen}

    task = TASKS["detection"][0]
    found = found_by(task, lambda: head(0.8), half)
    choice = choose(found, config_of(task, agreement=0.0).requirements)
    assert choice.why.endswith("it finds 25 % of FP32's boxes")
    report = report_of(found, choice=choice)
    assert report.candidates[1].fidelity.summary == "finds 25 % of FP32's boxes"


def test_false_boxes_are_in_the_words_as_well():
    task = TASKS["detection"][0]
    moved = found_by(task, lambda: head(0.8), lambda one: {"y": one["y"] + head(0.0)["y"] * 0.5})
    summary = moved[1].evaluation.fidelity.summary
    assert "none of FP32's" in summary


def test_what_can_not_be_judged_is_not_chosen_unless_the_limit_is_0():
    unknown = evaluation(60.0)
    found = [
        candidate("fp32", measurement(30.0), evaluation(None)),
        candidate("int8", measurement(10.0), unknown),
        candidate("fp16", measurement(20.0), evaluation(None)),  # the same outputs are certain
    ]
    task = ModelTask(kind="classification")
    assert choose(found, config_of(task).requirements).candidate == "fp16"
    assert choose(found, config_of(task, agreement=0.0).requirements).candidate == "int8"


def test_fp32_keeps_the_floor_also_where_two_runs_of_it_differ():
    noisy = candidate("fp32", measurement(30.0), evaluation(12.0, agreement=0.5))
    for limits in ({}, {"agreement": 1.0, "sqnr_db": 60.0}):
        requirements = config_of(ModelTask(kind="classification"), **limits).requirements
        choice = choose([noisy], requirements)
        assert choice.candidate == "fp32"
        assert choice.verdicts["fp32"].reasons == ("best latency within the limits",)


@pytest.mark.parametrize(
    ("kind", "limits", "in_effect"),
    [
        ("generic", {}, {"sqnr_db": 20.0}),
        ("generic", {"sqnr_db": 0.0}, {}),
        ("generic", {"sqnr_db": 31.0}, {"sqnr_db": 31.0}),
        ("generic", {"agreement": 0.0}, {"sqnr_db": 20.0}),
        ("detection", {}, {"sqnr_db": 20.0}),
        ("classification", {}, {"agreement": 0.95}),
        ("classification", {"agreement": 0.0}, {}),
        ("classification", {"agreement": 0.9}, {"agreement": 0.9}),
        ("classification", {"sqnr_db": 25.0}, {"agreement": 0.95, "sqnr_db": 25.0}),
        ("classification", {"sqnr_db": 0.0}, {"agreement": 0.95}),
        ("classification", {"agreement": 0.0, "sqnr_db": 25.0}, {"sqnr_db": 25.0}),
    ],
)
def test_the_floor_is_that_of_the_task(kind, limits, in_effect):
    found = config_of(ModelTask(kind=kind), **limits).requirements
    assert {key: bound for key, bound in found.limits.items() if bound} == in_effect
    key = "agreement" if kind == "classification" else "sqnr_db"
    assert found.floor == Floor(limit=key, bound=in_effect.get(key, 0.0), default=key not in limits)


def test_a_command_may_not_lift_the_default_floor():
    judged = config_of(ModelTask(kind="classification")).requirements.limits
    assert loosened(judged, {"agreement": 0.0}) == ("agreement",)
    assert loosened(judged, {"agreement": 0.94}) == ("agreement",)
    assert loosened(judged, {"agreement": 0.96, "sqnr_db": 0.0}) == ()
    generic = config_of(ModelTask()).requirements.limits
    assert loosened(generic, {"sqnr_db": 0.0}) == loosened(generic, {"sqnr_db": 19.0}) != ()
