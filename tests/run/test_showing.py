"""Which engines are shown on holdout frames, and when nothing is."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from agent.core.errors import JobError
from agent.core.records import Scene, Scenes
from agent.run.showing import scenes
from tests.run.test_chain import Run

FOUND = Scenes(scenes=(Scene(frame="b", width=1, height=1, words="the same outputs", views={}),))


def shown(tmp_path, chosen, *, answer=FOUND, fail=(), precisions=("fp32", "int8"), **tables):
    search = {"precisions": list(precisions), "calibrators": ["mse"]}
    run = Run(tmp_path, search=search, **tables)
    outcome = run.chain.run()
    failed = [replace(c, failure="lost") if c.id in fail else c for c in outcome.candidates]
    run.jobs.answers["scenes"] = lambda _: answer
    found = scenes(
        run.chain.config, run.jobs, replace(outcome, candidates=tuple(failed)), chosen,
        threading.Event(),
    )  # fmt: skip
    return found, [list(spec.engines) for kind, spec in run.jobs.asked if kind == "scenes"]


@pytest.mark.parametrize(
    ("chosen", "engines"),
    [
        ("int8-mse", ["fp32", "int8-mse"]),
        ("fp32", ["fp32", "int8-mse"]),
        (None, ["fp32", "int8-mse"]),
    ],
)
def test_the_baseline_comes_first_and_the_chosen_one_beside_it(tmp_path, chosen, engines):
    assert shown(tmp_path, chosen) == (FOUND, [engines])


@pytest.mark.parametrize(
    "tables", [{"report": {"thumbnails": False}}, {"calibration": {"keep": "stats"}}]
)
def test_where_no_picture_may_be_shown_no_engine_runs(tmp_path, tables):
    assert shown(tmp_path, "int8-mse", **tables) == (Scenes(), [])


def test_an_engine_that_fails_is_a_reason_on_the_page(tmp_path):
    found, _ = shown(tmp_path, "int8-mse", answer=JobError("it crashed", code="died"))
    assert found == Scenes(reason="No frames are shown: it crashed.")


def test_fp32_is_shown_alone_where_there_is_nothing_else(tmp_path):
    assert shown(tmp_path, "fp32", precisions=["fp32"]) == (FOUND, [["fp32"]])


def test_without_an_engine_there_is_nothing_to_show(tmp_path):
    found, asked = shown(tmp_path, None, fail=("fp32", "int8-mse"))
    assert "no engine was measured" in found.reason
    assert asked == []
