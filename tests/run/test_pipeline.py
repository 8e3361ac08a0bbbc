"""What follows the measurements: the contents of model.json, and a choice that is active already."""

from __future__ import annotations

import threading
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import pytest

from agent.core.choice.choose import choose
from agent.core.choice.requirements import Requirements
from agent.core.errors import RunnerError
from agent.core.frames.preprocess import InputSpec
from agent.core.records import Activation, TensorSpec
from agent.run.pipeline import Request, _activate, model_json
from tests.run.test_chain import Run


def outcome_of(tmp_path, shape=(1, 3, 48, 64), **tables: Any):
    run = Run(tmp_path, search={"precisions": ["fp32"]}, **tables)
    plain = run.jobs.answers["intake"]
    inputs = (TensorSpec(name="image", shape=shape, dtype="float32"),)
    run.jobs.answers["intake"] = lambda spec: replace(plain(spec), inputs=inputs)
    return run, run.chain.run()


@pytest.mark.parametrize(("layout", "shape"), [("NCHW", (1, 3, 48, 64)), ("NHWC", (1, 48, 64, 3))])
def test_the_size_of_the_input_is_the_models_own_whatever_the_layout(tmp_path, layout, shape):
    run, outcome = outcome_of(tmp_path, shape, model={"input": {"layout": layout}})
    (one,) = outcome.candidates
    found = model_json(run.chain.config, outcome, one)["preprocess"]
    assert (found["height"], found["width"], found["layout"]) == (48, 64, layout)
    assert found.keys() == {field.name for field in fields(InputSpec)}


class Active:
    """One active release, in front of which nothing may be changed."""

    def __init__(self, identity: str, settled: Activation | None = None) -> None:
        self._identity = identity
        self._settled = settled

    def settled(self, run_id: str) -> Activation | None:
        assert run_id == "r1"
        return self._settled

    def current(self) -> str:
        return "r0"

    def identity(self, _: str) -> str:
        return self._identity

    def create(self, *_: object) -> None:
        raise RuntimeError("another release was made")


def activated(tmp_path, check):
    run, outcome = outcome_of(tmp_path)
    run.jobs.answers["check"] = check
    choice = choose(outcome.candidates, Requirements("latency", {}))
    identity = model_json(run.chain.config, outcome, outcome.candidates[0])["identity"]
    ports = SimpleNamespace(
        releases=Active(identity), jobs=run.jobs, store=run.chain.store, run_command=None
    )
    request = Request(run_id="r1", trigger="t", started="")
    done = _activate(run.chain.config, request, ports, outcome, choice, threading.Event())
    return run, done


def test_a_choice_that_is_active_and_good_is_not_touched(tmp_path):
    run, done = activated(tmp_path, lambda _: "good")
    assert (done.state, done.release, done.previous) == ("unchanged", "r0", None)
    assert "not touched" in done.detail
    assert [spec.release for kind, spec in run.jobs.asked if kind == "check"] == ["r0"]


def test_a_choice_that_is_active_and_damaged_is_made_again(tmp_path):
    with pytest.raises(RuntimeError, match="another release was made"):
        activated(tmp_path, lambda _: RunnerError("cut short", code="bad_release"))


def test_where_nothing_is_feasible_nothing_is_attempted(tmp_path):
    run, outcome = outcome_of(tmp_path)
    choice = choose(outcome.candidates, Requirements("latency", {"latency_p99_ms": 1e-6}))
    ports = SimpleNamespace(releases=Active("x"))
    request = Request(run_id="r1", trigger="t", started="")
    done = _activate(run.chain.config, request, ports, outcome, choice, threading.Event())
    assert (done.state, done.release) == ("not_attempted", "r0")


@pytest.mark.parametrize("state", ["active", "rolled_back"])
def test_a_switch_that_was_finished_before_a_cut_is_reported_as_it_ended(tmp_path, state):
    run, outcome = outcome_of(tmp_path)
    choice = choose(outcome.candidates, Requirements("latency", {}))
    ended = Activation(state=state, release="r1", previous="r0", detail="as recorded")
    ports = SimpleNamespace(releases=Active("another", ended))
    request = Request(run_id="r1", trigger="t", started="")
    done = _activate(run.chain.config, request, ports, outcome, choice, threading.Event())
    assert done == ended
    if state == "rolled_back":  # a person asks again
        ports = SimpleNamespace(releases=Active("another", ended), jobs=None, store=run.chain.store)
        again = replace(request, again=True)
        with pytest.raises(RuntimeError, match="another release was made"):
            _activate(run.chain.config, again, ports, outcome, choice, threading.Event())
