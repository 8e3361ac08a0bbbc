"""What follows the measurements: the contents of model.json, and a choice that is active already."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.adapters.host.commands import run_command
from agent.adapters.storage.releases import FileReleases
from agent.core.choice.choose import choose
from agent.core.choice.requirements import Requirements
from agent.core.errors import JobError, RunnerError, StoreError
from agent.core.frames.input_spec import InputSpec
from agent.core.records import Activation, LayerTimes, Profiles, Scenes, TensorSpec
from agent.run.description import model_json
from agent.run.pipeline import Ports, Request, _activate, optimize
from tests.fakes.runners import FakeClock
from tests.run.test_chain import ANSWERS, Run


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
    ports = SimpleNamespace(
        releases=Active("another", ended), jobs=None, store=run.chain.store, run_command=None
    )
    request = Request(run_id="r1", trigger="t", started="")
    done = _activate(run.chain.config, request, ports, outcome, choice, threading.Event())
    assert done == ended
    again = replace(request, again=True)  # by a person, where it was refused or undone since
    with pytest.raises(RuntimeError, match="another release was made"):
        _activate(run.chain.config, again, ports, outcome, choice, threading.Event())
    (chosen,) = outcome.candidates
    identity = model_json(run.chain.config, outcome, chosen)["identity"]
    stands = replace(ended, state="active", release="r0")
    ports.releases = Active(identity, stands)
    asked = (run.chain.config, again, ports, outcome, choice, threading.Event())
    assert _activate(*asked) == stands
    ports.releases = Active("another", stands)  # the configuration changed, and so did the choice
    with pytest.raises(RuntimeError, match="another release was made"):
        _activate(*asked)


def profiled(tmp_path, answer):
    tmp_path.mkdir(exist_ok=True)
    run = Run(tmp_path, search={"precisions": ["fp32", "int8"], "calibrators": ["mse"]})
    run.jobs.answers["profile"] = answer
    outcome = run.chain.run()
    choice = choose(outcome.candidates, Requirements("latency", {}))
    return run, lambda: run.chain.profiled(outcome, choice).candidates


def times(inference_us: float) -> LayerTimes:
    return LayerTimes(
        source="a test", runs=3, inference_us=inference_us, conversions_us=0.0, between_us=0.0,
        count=0, layers=(), against_baseline=None,
    )  # fmt: skip


def test_layers_are_timed_after_all_measurements_and_once_a_run(tmp_path):
    def answer(spec):
        return Profiles(profiled={"fp32": times(5.0)}, failed={"int8-mse": "not on CUDA"})

    run, again = profiled(tmp_path, answer)
    for _ in range(2):
        fp32, int8 = again()
        assert (fp32.layer_times, fp32.layer_times_reason) == (times(5.0), "")
        assert (int8.layer_times, int8.layer_times_reason) == (None, "not on CUDA")
    kinds = [kind for kind, _ in run.jobs.asked]
    assert kinds.count("profile") == 1
    assert kinds[-2:] == ["measure", "profile"]
    (spec,) = (spec for kind, spec in run.jobs.asked if kind == "profile")
    assert (list(spec.engines), spec.baselines) == (["fp32", "int8-mse"], {"int8-mse": "fp32"})


def test_a_profile_that_fails_is_a_reason_and_a_cancelled_one_ends_the_run(tmp_path):
    for error in (JobError("died", code="died"), StoreError("full", code="disk_full")):
        _, found = profiled(tmp_path / error.code, lambda _, error=error: error)
        for one in found():
            assert one.layer_times is None
            assert error.message in one.layer_times_reason
    _, found = profiled(tmp_path, lambda _: JobError("canceled", code="canceled"))
    with pytest.raises(JobError, match="canceled"):
        found()


def pipeline(tmp_path, write=None, answers=None, tables=None, warn=lambda _: None, **request: Any):
    """Return a function that does the whole run with real releases, and these releases."""
    run = Run(tmp_path, **(tables or {"search": {"precisions": ["fp32"]}}))
    inputs = (TensorSpec(name="image", shape=(1, 3, 48, 64), dtype="float32"),)
    plain = run.jobs.answers["intake"]
    build = run.jobs.answers["build"]

    def built(spec):
        Path(spec.work, "model.onnx").write_bytes(b"graph")
        return build(spec)

    run.jobs.answers |= {
        "intake": lambda spec: replace(plain(spec), inputs=inputs),
        "build": built,
        "check": lambda _: "good",
        "scenes": lambda _: Scenes(),
        "render": lambda _: "<html>",
        **(answers or {}),
    }
    releases = FileReleases(str(tmp_path))
    written = {}
    ports = Ports(
        store=run.chain.store, jobs=run.jobs, clock=FakeClock(), releases=releases,
        run_command=run_command, write=write or (lambda _, name, body: written.update({name: body})),
        history=tuple, remember=lambda _: None, warn=warn,
    )  # fmt: skip
    known = {"run_id": "r1", "trigger": "t", "started": "2026-11-23T10:15:00Z"}
    request = Request(**known | request)
    never = threading.Event()
    return (
        lambda: optimize(run.chain.config, request, ports, lambda *_: None, never),
        releases,
        written,
    )


def test_a_run_cut_between_its_switch_and_its_report_reports_the_switch(tmp_path):
    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    run, releases, _ = pipeline(tmp_path, cut)
    releases.create("r0", {"model.json": b"{}"})
    releases.switch("r0")
    with pytest.raises(KeyboardInterrupt):
        run()
    assert releases.current() == "r1"
    again, releases, written = pipeline(tmp_path)
    activation = again().activation
    assert (activation.state, activation.release, activation.previous) == ("active", "r1", "r0")
    assert written.keys() == {"report.json", "report.html"}
    assert (tmp_path / "current" / "report.json").read_bytes() == written["report.json"]


def test_a_run_in_steps_that_chooses_again_leaves_the_release_in_use_as_it_is(tmp_path):
    run, releases, _ = pipeline(tmp_path, again=True)
    names = []
    for _ in range(3):
        assert run().activation.state == "active"
        names.append(releases.current())
        assert (tmp_path / "current" / "report.json").exists()
        file = tmp_path / "current" / "model.json"  # as if the configuration was another one then
        file.write_text(json.dumps({**releases.model_json(names[-1]), "identity": "before"}))
    assert names == ["r1", "r1-2", "r1"]
    assert releases.model_json("r1")["release"] == "r1"
    assert releases.model_json("r1-2")["release"] == "r1-2"


def test_a_report_that_could_not_be_written_does_not_hide_the_active_release(tmp_path):
    def full(*_: object) -> None:
        raise StoreError("the disk is full", code="disk_full", hint="free some space")

    run, releases, _ = pipeline(tmp_path, full)
    with pytest.raises(StoreError) as caught:
        run()
    assert releases.current() == "r1"
    assert caught.value.code == "disk_full"
    assert caught.value.message.startswith("release r1 is active, but its report")


def test_the_report_is_not_put_into_a_release_that_was_removed(tmp_path):
    run, releases, _ = pipeline(tmp_path)
    run()
    shutil.rmtree(tmp_path / "releases" / "r1")
    again, releases, written = pipeline(tmp_path)
    assert again().activation.state == "active"  # as it was then
    assert releases.ids() == []
    assert "report.json" in written


def test_a_run_reports_its_input_and_what_changed_against_the_release_before(tmp_path):
    origin = {"model.input.layout": "quantd.toml"}
    run, releases, written = pipeline(tmp_path, origin=origin)
    first = run()
    assert first.against_previous_reason == "no release was active before"
    fed = json.loads(written["report.json"])["input"]
    assert (fed["width"], fed["origin"]["width"]) == (64, "the model file")
    assert fed["origin"]["layout"] == "quantd.toml"
    assert fed["origin"]["scale"] == "default"
    sames, _, _ = pipeline(tmp_path, run_id="r2")
    assert sames().against_previous_reason.startswith("release r1 was active before, too")
    marked = {**releases.model_json("r1"), "identity": "before"}
    (tmp_path / "current" / "model.json").write_text(json.dumps(marked))
    again, _, _ = pipeline(tmp_path, run_id="r3")
    found = again().against_previous
    assert found
    assert (found.release, found.candidate, found.same_run) == ("r1", first.choice.candidate, True)
    (tmp_path / "releases" / "r1" / "report.json").write_text("{damaged")
    (tmp_path / "releases" / "r3" / "report.json").unlink()
    marked = {**releases.model_json("r3"), "identity": "before"}
    (tmp_path / "current" / "model.json").write_text(json.dumps(marked))
    last, _, _ = pipeline(tmp_path, run_id="r4")
    found = last().against_previous
    assert found
    assert found.speedup.reason == "release r3 has no report with its figures"


def test_what_is_doubtful_is_shown_before_the_search_and_reported(tmp_path):
    order: list[str] = []

    def suspicious(spec):
        return replace(ANSWERS["intake_check"](spec), doubts=("FP32 finds nothing in 32 frames",))

    def quantizes(spec):
        order.append("quantize")
        return ANSWERS["quantize"](spec)

    run, _, written = pipeline(
        tmp_path, warn=order.append, answers={"intake_check": suspicious, "quantize": quantizes}
    )
    report = run()
    unstated, nothing = report.warnings
    assert order == [unstated, nothing, "quantize"]
    assert unstated.startswith("nothing states which values of pixels the model takes")
    assert nothing.startswith(
        "FP32 finds nothing in 32 frames: is the input right? It is fed 64x48 RGB NCHW float32, "
        "pixels 0..255, so values 0 to 255, stretch"
    )
    in_json = json.loads(written["report.json"])
    assert in_json["warnings"] == [unstated, nothing]
    assert in_json["model"]["intake"]["doubts"] == ["FP32 finds nothing in 32 frames"]


def test_pixels_that_are_stated_are_not_questioned(tmp_path):
    run, _, _ = pipeline(tmp_path, origin={"model.input.pixels": "quantd.toml"})
    assert run().warnings == ()
