"""The chain: what is done once, what is reused, and what a failure affects."""

from __future__ import annotations

import hashlib
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import config as configuration
from agent.adapters.storage.store import FileStore
from agent.core.errors import (
    CalibrationError,
    CameraError,
    ConfigError,
    JobError,
    ModelError,
    PowerError,
    QuantizeError,
    RunnerError,
)
from agent.core.prediction.predict import Trial
from agent.core.prediction.priors import Fleet, FleetFigure
from agent.core.records import (
    CalibrationSet,
    CheckedIntake,
    CleanModel,
    ConditionedModel,
    Digest,
    Engine,
    FrontMember,
    LayerSpeeds,
    Measurements,
    MixedFront,
    Platform,
    Profiles,
    QuantizedModel,
    Rejected,
    Statistics,
    TensorSpec,
)
from agent.core.release.reuse import ReusedCalibration
from agent.run import building
from agent.run.chain import Chain
from agent.run.description import model_json
from agent.verbs import single
from tests.fakes.jobs import FakeJobs
from tests.fakes.runners import FakeClock
from tests.support.candidates import evaluation, layers, measurement

PLATFORM = Platform(
    runtime="onnxruntime", runtime_version="1", scheme="U8S8", fp16_reason="not here",
    device="cpu", environment={},
)  # fmt: skip


def model(spec: Any) -> CleanModel:
    return CleanModel(
        digest=spec.digest, name="m", sha256="s", opset=17, inputs=(), outputs=(), macs=1,
        weight_bytes=1, activation_bytes=1, changes=(),
    )  # fmt: skip


def captured(spec: Any) -> CalibrationSet:
    return CalibrationSet(
        digest=spec.digest, source="file:///x", synthetic=False, width=1, height=1,
        frames=("a",), holdout=("b",), seen=2, lost=0, rejected=Rejected(),
    )  # fmt: skip


def quantized(spec: Any) -> QuantizedModel:
    return QuantizedModel(
        digest=spec.digest, model=spec.model, statistics=spec.statistics,
        recipe=spec.recipe,
    )  # fmt: skip


def engine(spec: Any) -> Engine:
    return Engine(
        digest=spec.digest, quantized=spec.quantized, runtime="onnxruntime",
        runtime_version="1", device="cpu", file="model.onnx", file_digest="f", size_bytes=1,
        build_s=1.0, batch=spec.batch, layers=layers(),
    )  # fmt: skip


def front(spec: Any, count: int) -> MixedFront:
    return MixedFront(
        digest=spec.digest, model=spec.model, statistics=spec.statistics,
        members=tuple(
            FrontMember(kept_float=("a",) * k, time_share=None, sqnr_db=None, meets_limits=None)
            for k in range(count)
        ),
        calibrator="mse", steps=(), evaluations=1, layers=(), weighed_by=spec.weighed_by,
    )  # fmt: skip


ANSWERS = {
    "platform": lambda _: PLATFORM,
    "sensor": lambda _: "",
    "trial": lambda _: RunnerError("none here"),
    "intake": model,
    "capture": captured,
    "intake_check": lambda spec: CheckedIntake(
        digest=spec.digest, model=spec.model, calibration=spec.calibration, frames=4, output="y",
        max_difference=2e-6, relative=1e-6, tolerance=1e-3,
    ),
    "condition": lambda spec: ConditionedModel(
        digest=spec.digest, model=spec.model, calibration=spec.calibration,
        scheme=spec.scheme, weight_steps=(), steps=("equalization",), tried=("equalization: better",),
    ),
    "statistics": lambda spec: Statistics(
        digest=spec.digest, model=spec.conditioned, calibration=spec.calibration,
        tensors=1, frames=1,
    ),
    "layer_speeds": lambda _: RunnerError("no profiler here"),
    "front": lambda spec: front(spec, 1),
    "quantize": quantized,
    "build": engine,
    "evaluate": lambda spec: replace(evaluation(), digest=spec.digest),
    "measure": lambda spec: Measurements(
        measured={name: measurement() for name in spec.engines}, failed={}
    ),
    "profile": lambda spec: Profiles(profiled={}, failed=dict.fromkeys(spec.engines, "no profiler")),
}  # fmt: skip


class Run:
    """A chain over a real store, its jobs scripted."""

    def __init__(
        self, tmp_path: Path, run_id: str = "r1", reused: Any = None, **tables: Any
    ) -> None:
        self.jobs = FakeJobs(dict(ANSWERS))
        self.seen: list[tuple[str, int, int, str]] = []
        self.model = tmp_path / "m.onnx"
        self.model.write_bytes(b"a model")
        model = {"name": "m", "path": str(self.model), **tables.pop("model", {})}
        config = configuration.from_dump({"camera": {"uri": "file:///x"}, "model": model, **tables})
        self.chain = Chain(
            config=config, run_id=run_id, store=FileStore(str(tmp_path)), jobs=self.jobs,
            clock=FakeClock(), history=(), observe=lambda *step: self.seen.append(step),
            cancelled=threading.Event(), reused=reused or ReusedCalibration(),
        )  # fmt: skip

    def failing(self, kind: str, error: Exception, calibrator: str | None = None) -> Run:
        before = self.jobs.answers[kind]

        def answer(spec: Any) -> object:
            mine = calibrator is None or spec.recipe.calibrator == calibrator
            return error if mine else before(spec)

        self.jobs.answers[kind] = answer
        return self


def forgotten(run: Run, digest: str) -> None:
    shutil.rmtree(run.chain.store.directory(digest))


def test_conditioning_and_statistics_are_made_once_for_all_calibrators(tmp_path):
    run = Run(tmp_path)
    outcome = run.chain.run()
    assert [c.id for c in outcome.candidates] == [
        "fp32", "fp16", "int8-minmax", "int8-entropy", "int8-percentile", "int8-mse", "int8-mixed-1",
    ]  # fmt: skip
    assert run.jobs.counts["condition"] == run.jobs.counts["statistics"] == 1
    assert run.jobs.counts["quantize"] == 6  # FP16 is not offered here
    assert outcome.conditioning == ("equalization: better",)
    assert all(c.measurement for c in outcome.candidates if not c.failure)
    statistics = next(spec for kind, spec in run.jobs.asked if kind == "statistics")
    conditioned = next(spec for kind, spec in run.jobs.asked if kind == "condition")
    assert statistics.conditioned == conditioned.digest


SPEEDS = LayerSpeeds(
    digest=Digest("s"), source="a profiler", floating="fp32", layers=(), conversion_ns=1.0
)


def test_the_members_of_a_front_are_candidates_in_the_place_of_int8_mixed(tmp_path):
    run = Run(tmp_path, search={"precisions": ["int8-mixed", "int8"], "calibrators": ["mse"]})
    run.jobs.answers["front"] = lambda spec: front(spec, 3)
    found = run.chain.run().candidates
    assert [c.id for c in found] == [
        "fp32", "int8-mixed-1", "int8-mixed-2", "int8-mixed-3", "int8-mse",
    ]  # fmt: skip
    assert all(c.measurement for c in found)
    (asked,) = [spec for kind, spec in run.jobs.asked if kind == "front"]
    assert (asked.speeds, "no profiler here" in asked.weighed_by) == (None, True)
    assert asked.weighed_by.startswith("multiply-accumulates")
    members = [spec for kind, spec in run.jobs.asked if kind == "quantize" and spec.front]
    assert [spec.recipe.member for spec in members] == [1, 2, 3]


def test_a_front_that_is_not_offered_leaves_one_candidate_with_the_reason(tmp_path):
    run = Run(tmp_path).failing("front", QuantizeError("misses 20 dB", code="not_offered"))
    found = {c.id: c for c in run.chain.run().candidates}
    assert found["int8-mixed"].failure == "misses 20 dB"
    assert found["int8-mse"].measurement


def test_a_member_that_can_not_be_made_leaves_the_others(tmp_path):
    run = Run(tmp_path)
    run.jobs.answers["front"] = lambda spec: front(spec, 2)
    error = JobError("killed", code="died")
    run.jobs.answers["quantize"] = lambda s: error if s.recipe.member == 1 else quantized(s)
    found = {c.id: c for c in run.chain.run().candidates}
    assert found["int8-mixed-1"].failure == "killed"
    assert found["int8-mixed-2"].measurement


@pytest.mark.parametrize(("slower", "graphs"), [((), 2), (("a", "b"), 3)])
def test_layers_that_int8_makes_slower_stay_float_in_every_int8_candidate(tmp_path, slower, graphs):
    """Where there are none, the timed engine is that of a candidate, made and built once."""
    run = Run(tmp_path, search={"precisions": ["int8"], "calibrators": ["minmax", "mse"]})
    run.jobs.answers["layer_speeds"] = lambda s: replace(SPEEDS, digest=s.digest, slower=slower)
    found = run.chain.run().candidates
    assert all(c.measurement for c in found)
    made = [s for kind, s in run.jobs.asked if kind == "quantize" and s.recipe.precision == "int8"]
    assert [spec.kept for spec in made] == [(), slower, slower][-graphs:]
    assert run.jobs.counts["build"] == 1 + graphs
    (timed,) = [spec for kind, spec in run.jobs.asked if kind == "layer_speeds"]
    assert (timed.precision, timed.floating) == ("fp32", found[0].engine)


def test_nothing_is_timed_without_int8_or_for_another_device(tmp_path):
    run = Run(tmp_path, search={"precisions": ["fp32", "fp16"]})
    run.chain.run()
    assert not run.jobs.counts["layer_speeds"]
    cross = Run(tmp_path, runtime={"compute_capability": "8.7"})
    cross.chain.run()
    assert not cross.jobs.counts["layer_speeds"]
    (asked,) = [spec for kind, spec in cross.jobs.asked if kind == "front"]
    assert "another device" in asked.weighed_by


def test_a_fast_search_measures_the_members_of_a_front(tmp_path):
    run = searching(tmp_path, {"fp32": 9.0, "int8": 3.0}, ["int8", "int8-mixed"])
    run.jobs.answers["front"] = lambda spec: front(spec, 2)
    found = [c.id for c in run.chain.run().candidates]
    assert found[-2:] == ["int8-mixed-1", "int8-mixed-2"]


def test_a_quantized_file_without_fp32_is_compared_with_itself(tmp_path):
    run = Run(tmp_path, search={"precisions": ["fp32", "int8"], "calibrators": ["mse"]})
    given = {"quantized": "2 QLinearConv", "baseline": "as-given"}
    run.jobs.answers["intake"] = lambda spec: replace(model(spec), **given)
    run.failing("condition", QuantizeError("quantized", code="quantized_already"))
    found = {c.id: c for c in run.chain.run().candidates}
    assert list(found) == ["as-given", "int8-mse"]
    assert found["as-given"].measurement
    assert found["int8-mse"].failure == "quantized"
    (evaluated,) = [spec for kind, spec in run.jobs.asked if kind == "evaluate"]
    assert evaluated.engine == evaluated.baseline
    (measured,) = [spec for kind, spec in run.jobs.asked if kind == "measure"]
    assert measured.baselines == ("as-given",)


def test_a_build_that_may_lack_memory_is_announced_before_it_begins(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(building, "free_bytes", lambda: 2_500_000_000)
    shared = replace(PLATFORM, runtime="tensorrt", environment={"gpu_memory": "shared"})
    logged = []

    def built(spec):
        logged.extend(record.getMessage() for record in caplog.records)
        return engine(spec)

    def fp32():
        run = Run(tmp_path, search={"precisions": ["fp32"]}, runtime={"workspace_mb": 4096})
        run.jobs.answers |= {"platform": lambda _: shared, "build": built}
        (found,) = run.chain.run().candidates
        return found

    short = fp32().short_of_memory
    assert "4,295 MB of scratch memory" in short
    assert f"build_short_of_memory candidate=fp32 {short}" in logged
    assert fp32().short_of_memory == ""  # it was built before


def test_each_power_mode_is_measured_by_itself_with_the_same_engines(tmp_path):
    platform = replace(PLATFORM, environment={"power_modes": "15W, 25W", "power_mode": "15W"})
    run = Run(tmp_path, search={"precisions": ["fp32"], "power_modes": ["15W", "25W", "MAXN"]})
    run.jobs.answers["platform"] = lambda _: platform
    found = {c.id: c for c in run.chain.run().candidates}
    asked = [spec for kind, spec in run.jobs.asked if kind == "measure"]
    assert [(spec.power_mode, list(spec.engines)) for spec in asked] == [
        ("15W", ["fp32@15W"]), ("25W", ["fp32@25W"]),
    ]  # fmt: skip
    assert run.jobs.counts["build"] == 1
    assert found["fp32@15W"].engine == found["fp32@25W"].engine
    assert found["fp32@MAXN"].failure


def test_a_power_mode_that_is_not_set_ends_its_own_candidates_only(tmp_path):
    run = Run(tmp_path, search={"precisions": ["fp32"], "power_modes": ["15W", "25W"]})
    environment = {"power_modes": "15W, 25W", "power_mode": "15W"}
    run.jobs.answers["platform"] = lambda _: replace(PLATFORM, environment=environment)
    measure = run.jobs.answers["measure"]
    error = PowerError("25W was not set", code="power_mode")
    run.jobs.answers["measure"] = lambda s: error if s.power_mode == "25W" else measure(s)
    found = {c.id: c for c in run.chain.run().candidates}
    assert "not set" in found["fp32@25W"].failure
    assert found["fp32@15W"].measurement


@pytest.mark.parametrize("note", ["loading {}", "warming up {}", "{}, p50 1.00 ms, 5.00 W", ""])
def test_a_candidate_that_kills_the_measuring_job_is_left_out_and_the_others_are_measured(
    tmp_path, note
):
    run = Run(tmp_path)
    measure = run.jobs.answers["measure"]
    run.jobs.reports["measure"] = note.format("int8-mse"), "int8-mse"
    killed = JobError("measure: killed by SIGSEGV at 300 MB resident", code="died", hint="see")
    run.jobs.answers["measure"] = lambda s: killed if "int8-mse" in s.engines else measure(s)
    found = {c.id: c for c in run.chain.run().candidates if c.id != "fp16"}
    assert run.jobs.counts["measure"] == 2
    assert [name for name, c in found.items() if c.failure] == ["int8-mse"]
    assert "SIGSEGV" in found["int8-mse"].failure
    assert all(c.measurement for name, c in found.items() if name != "int8-mse")


def test_the_candidate_that_kills_the_measuring_job_may_have_any_id(tmp_path):
    """A power mode is part of it: any words, even what a note consists of."""
    mode = "loading fp32@15W and int8-mse"
    platform = replace(PLATFORM, environment={"power_modes": mode, "power_mode": mode})
    run = Run(tmp_path, search={"precisions": ["fp32", "int8"], "power_modes": [mode]})
    run.jobs.answers["platform"] = lambda _: platform
    killer = f"int8-mse@{mode}"
    measure = run.jobs.answers["measure"]
    run.jobs.reports["measure"] = f"loading {killer}", killer
    run.jobs.answers["measure"] = lambda s: (
        JobError("killed", code="died") if killer in s.engines else measure(s)
    )
    found = run.chain.run().candidates
    assert [c.id for c in found if c.failure] == [killer]


@pytest.mark.parametrize(
    ("report", "code", "tries"),
    [
        (("int8-mse", "int8-mse"), "died", 2),
        (("idle for 10 s", ""), "no_memory", 1),
        (("loading int8-mse", ""), "died", 1),  # the note is for people
        (("int8-mse", "int8-mse"), "timed_out", 2),
        (("gone", "not measured here"), "died", 1),
    ],
)
def test_a_measuring_job_that_can_not_be_saved_still_ends_in_a_report(
    tmp_path, report, code, tries
):
    run = Run(tmp_path).failing("measure", JobError("measure: ended", code=code))
    run.jobs.reports["measure"] = report
    outcome = run.chain.run()
    assert run.jobs.counts["measure"] == tries
    assert all(c.failure for c in outcome.candidates)


@pytest.mark.parametrize(
    ("tables", "code"),
    [({"sha256": "0" * 64}, "wrong_model"), ({"path": "/none/m.onnx"}, "no_model")],
)
def test_a_model_that_is_not_there_or_another_one_ends_the_run(tmp_path, tables, code):
    run = Run(tmp_path, model=tables)
    with pytest.raises(ModelError) as caught:
        run.chain.run()
    assert caught.value.code == code
    assert not run.jobs.counts.keys() & {"intake", "capture"}


def test_a_decoding_that_does_not_fit_the_model_ends_the_run_before_the_capture(tmp_path):
    run = Run(tmp_path, model={"task": {"kind": "detection", "decode": {"kind": "yolo"}}})
    plain = run.jobs.answers["intake"]
    head = TensorSpec(name="y", shape=(1, 1000), dtype="float32")
    run.jobs.answers["intake"] = lambda spec: replace(plain(spec), outputs=(head,))
    with pytest.raises(ConfigError, match=r"output y of shape 1x1000") as caught:
        run.chain.run()
    assert "no decode.kind fits them" in caught.value.hint
    assert "capture" not in run.jobs.counts

    fitting = replace(head, shape=(1, 84, 8400))
    forgotten(run, run.jobs.asked[-1][1].digest)
    run.jobs.answers["intake"] = lambda spec: replace(plain(spec), outputs=(fitting,))
    run.chain.run()
    assert "capture" in run.jobs.counts


def test_a_model_of_the_configured_sha256_is_taken(tmp_path):
    sha256 = hashlib.sha256(b"a model").hexdigest()
    run = Run(tmp_path, model={"sha256": sha256.upper()})
    run.chain.intake()
    assert [spec.sha256 for kind, spec in run.jobs.asked if kind == "intake"] == [sha256]


def test_a_sensor_that_is_missing_when_it_is_measured_still_ends_in_a_report(tmp_path):
    run = Run(tmp_path).failing("measure", PowerError("the rail is gone", code="gone"))
    outcome = run.chain.run()
    assert {c.failure for c in outcome.candidates} == {"not here", "the rail is gone"}


def test_a_measuring_job_that_was_canceled_ends_the_run(tmp_path):
    run = Run(tmp_path).failing("measure", JobError("measure: canceled", code="canceled"))
    with pytest.raises(JobError, match="canceled"):
        run.chain.run()
    assert run.jobs.counts["measure"] == 1


def test_a_run_that_was_killed_resumes_where_it_stopped(tmp_path):
    first = Run(tmp_path).failing("build", JobError("died", code="died"))
    assert all(c.failure for c in first.chain.run().candidates)
    again = Run(tmp_path)
    assert not [c for c in again.chain.run().candidates if c.failure and c.id != "fp16"]
    assert not again.jobs.counts.keys() & {"capture", "condition", "statistics", "quantize"}


PER_CANDIDATE = ("quantize", "build", "evaluate")  # of which there are two
MADE = ("capture", "condition", "statistics", "quantize", "build", "evaluate", "measure")


@pytest.mark.parametrize("stage", MADE)
def test_a_run_whose_process_was_killed_makes_nothing_twice(tmp_path, stage):
    class Killed(BaseException):
        """No error that anything could handle."""

    def die(_: Any) -> object:
        raise Killed

    first = Run(tmp_path, search={"precisions": ["fp32", "int8"], "calibrators": ["minmax"]})
    first.jobs.answers[stage] = die
    with pytest.raises(Killed):
        first.chain.run()
    again = Run(tmp_path, search={"precisions": ["fp32", "int8"], "calibrators": ["minmax"]})
    found = again.chain.run().candidates
    assert all(one.measurement for one in found)
    both = first.jobs.counts + again.jobs.counts
    twice = {kind for kind in MADE if both[kind] > (2 if kind in PER_CANDIDATE else 1)}
    assert twice == {stage}


def test_a_run_on_the_frames_of_an_earlier_one_builds_and_quantizes_nothing_twice(tmp_path):
    first = Run(tmp_path).chain.run()
    run = Run(tmp_path, "r2", reused=ReusedCalibration(calibration=first.calibration.digest))
    again = run.chain.run()
    assert (first.reused, again.reused) == (False, True)
    assert again.calibration == first.calibration
    assert run.jobs.counts.keys() <= {"platform", "trial", "layer_speeds", "measure"}


def test_earlier_statistics_are_added_to_on_the_graph_they_belong_to(tmp_path):
    first = Run(tmp_path)
    earlier = first.chain.run().counted
    run = Run(
        tmp_path,
        "r2",
        reused=ReusedCalibration(conditioned=earlier.model, statistics=earlier.digest),
    )
    outcome = run.chain.run()
    assert not run.jobs.counts["condition"]  # another one would fit other histograms
    assert run.jobs.counts["capture"] == run.jobs.counts["statistics"] == 1
    (asked,) = [spec for kind, spec in run.jobs.asked if kind == "statistics"]
    assert (asked.extends, asked.conditioned) == (earlier.digest, earlier.model)
    assert outcome.counted.digest != earlier.digest
    assert outcome.not_extended == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda run: run.model.write_bytes(b"another"), "model has changed"),
        (
            lambda run: run.jobs.answers.update(
                platform=lambda _: replace(PLATFORM, runtime="tensorrt", scheme="S8S8-FP16")
            ),
            "are for U8S8, this runtime takes S8S8",
        ),
        (lambda run: forgotten(run, run.chain.reused.conditioned), "no longer stored"),
        (lambda run: forgotten(run, run.chain.reused.statistics), "no longer stored"),
    ],
)
def test_earlier_statistics_that_do_not_fit_are_left_out_with_a_reason(tmp_path, change, reason):
    earlier = Run(tmp_path).chain.run().counted
    run = Run(
        tmp_path,
        "r2",
        reused=ReusedCalibration(conditioned=earlier.model, statistics=earlier.digest),
    )
    change(run)
    outcome = run.chain.run()
    assert reason in outcome.not_extended
    assert run.jobs.counts["condition"] == 1
    (asked,) = [spec for kind, spec in run.jobs.asked if kind == "statistics"]
    assert asked.extends is None


def test_missing_frames_are_an_error_and_not_captured_silently(tmp_path):
    run = Run(tmp_path, reused=ReusedCalibration(calibration=Digest("0" * 64)))
    with pytest.raises(CalibrationError, match="no longer stored") as caught:
        run.chain.run()
    assert caught.value.code == "calibration_gone"
    assert not run.jobs.counts["capture"]


def test_what_int8_mixed_looks_for_is_part_of_what_it_is(tmp_path):
    Run(tmp_path).chain.run()
    other = Run(tmp_path, limits={"sqnr_db": 15.0})
    other.chain.run()
    asked = [spec.recipe.precision for kind, spec in other.jobs.asked if kind == "quantize"]
    assert asked == ["int8-mixed"]


def test_a_full_search_conditions_again_what_a_fast_one_did_not_refit(tmp_path):
    Run(tmp_path, search={"strategy": "fast"}).chain.run()
    other = Run(tmp_path)
    other.chain.run()
    assert other.jobs.counts["condition"] == 1


@pytest.mark.parametrize(
    "error",
    [
        QuantizeError("no range", code="no_range"),
        JobError("died", code="died"),
        RunnerError("not finite", code="baseline_not_finite"),
        CalibrationError("model failed", code="model_failed"),
    ],
)
def test_trouble_of_one_recipe_ends_only_that(tmp_path, error):
    outcome = Run(tmp_path).failing("quantize", error, "entropy").chain.run()
    failed = {c.id: c.failure for c in outcome.candidates if c.failure}
    assert failed == {"fp16": "not here", "int8-entropy": error.message}


def test_a_build_that_was_killed_ends_only_its_candidate_and_keeps_the_advice(tmp_path):
    run = Run(tmp_path)
    killed = JobError("build: killed by SIGKILL", code="died", hint="lower runtime.workspace_mb")
    turns = iter([None, killed])
    run.jobs.answers["build"] = lambda spec: next(turns, None) or engine(spec)
    failed = {c.id: c.failure for c in run.chain.run().candidates if c.failure}
    assert failed == {
        "fp16": "not here",
        "int8-minmax": "build: killed by SIGKILL; lower runtime.workspace_mb",
    }


def test_an_engine_for_another_device_is_kept_and_never_offered(tmp_path):
    run = Run(tmp_path)
    run.jobs.answers["build"] = lambda spec: replace(
        engine(spec), runnable=False, device="compute capability 8.6"
    )
    found = {c.id: c for c in run.chain.run().candidates if c.id != "fp16"}
    assert all(c.engine and c.measurement is None for c in found.values())
    assert all("cross-built for compute capability 8.6" in c.failure for c in found.values())
    assert not run.jobs.counts.keys() & {"evaluate", "measure"}


@pytest.mark.parametrize(
    ("tables", "again"),
    [
        ({}, False),
        ({"limits": {"latency_p99_ms": 5.0}}, False),
        ({"measure": {"duration_s": 5.0}}, True),
        ({"measure": {"power": "none"}}, True),
        ({"search": {"strategy": "fast"}}, True),
        ({"limits": {"power_w": 5.0}}, True),  # windows become as long as the sensor needs
    ],
)
def test_a_manual_run_is_measured_again_where_the_protocol_changed(tmp_path, tables, again):
    Run(tmp_path).chain.run()
    run = Run(tmp_path, **tables)
    run.chain.run()
    assert run.jobs.counts["measure"] == int(again)


HERE = {"compute_capability": "8.7", "driver": "540.4.0", "l4t": "36.4.3", "power_mode": "15W"}


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ({}, False),
        ({"environment": {**HERE, "kernel": "6.8", "quantd": "9"}}, False),
        ({"environment": {**HERE, "driver": "560.1"}}, True),
        ({"environment": {**HERE, "l4t": "36.5.0"}}, True),
        ({"environment": {**HERE, "power_mode": "MAXN"}}, True),
        ({"environment": {**HERE, "compute_capability": "11.0"}}, True),
        ({"runtime_version": "10.4"}, True),
        ({"device": "another GPU"}, True),
    ],
)
def test_an_engine_is_reused_only_where_it_was_built(tmp_path, changed, again):
    here = replace(PLATFORM, environment=HERE)
    builds = []
    for platform in (here, replace(here, **changed)):
        run = Run(tmp_path)
        run.jobs.answers["platform"] = lambda _, found=platform: found
        run.chain.run()
        builds.append(run.jobs.counts["build"])
    assert builds == [6, 6 if again else 0]


@pytest.mark.parametrize(
    ("runtime", "mine", "other"),
    [
        ("onnxruntime", {"threads": 2}, {"builder_level": 5}),
        ("tensorrt", {"builder_level": 5}, {"threads": 2, "providers": ["CPUExecutionProvider"]}),
    ],
)
def test_the_settings_of_its_runtime_are_part_of_an_engine_and_no_others(
    tmp_path, runtime, mine, other
):
    counts = []
    for settings in ({}, {"kind": runtime}, other, mine):
        run = Run(tmp_path, runtime=settings)
        run.jobs.answers["platform"] = lambda _: replace(PLATFORM, runtime=runtime)
        run.chain.run()
        counts.append(run.jobs.counts["build"])
    assert counts == [6, 0, 0, 6]


def test_another_way_of_launching_measures_everything_again_and_nothing_else(tmp_path):
    counts = []
    for allowed in (True, False, False):
        run = Run(tmp_path, runtime={"cuda_graphs": allowed})
        run.chain.run()
        counts.append([run.jobs.counts[kind] for kind in ("build", "evaluate", "measure")])
    assert counts[1:] == [[0, 0, counts[0][2]], [0, 0, 0]]


def test_trouble_of_the_statistics_leaves_what_needs_none(tmp_path):
    outcome = Run(tmp_path).failing("statistics", CalibrationError("no")).chain.run()
    assert [c.id for c in outcome.candidates if not c.failure] == ["fp32"]


@pytest.mark.parametrize("kind", ["quantize", "evaluate"])
def test_a_wrong_configuration_ends_the_run(tmp_path, kind):
    run = Run(tmp_path).failing(kind, ConfigError("model.task.decode: no output 7"))
    with pytest.raises(ConfigError):
        run.chain.run()


@pytest.mark.parametrize("kind", ["condition", "quantize", "build", "evaluate", "measure"])
def test_a_cancelled_run_ends_wherever_it_is(tmp_path, kind):
    run = Run(tmp_path).failing(kind, JobError("canceled", code="canceled"))
    with pytest.raises(JobError):
        run.chain.run()


def test_progress_inside_a_candidate_is_reported_beside_its_count(tmp_path):
    run = Run(tmp_path)
    run.chain.run()
    notes = [note for stage, _, _, note in run.seen if stage == "quantize"]
    assert "int8-mixed: half-way (1/2)" in notes
    counts = {total for stage, _, total, _ in run.seen if stage == "quantize"}
    assert counts == {7}


def test_a_graph_is_tried_once_in_each_power_mode(tmp_path):
    trial = Trial(batch=1, fp32_ms=2.0, int8_ms=1.0)
    asked = []
    for mode in ("15W", "MAXN", "15W"):
        run = Run(tmp_path)
        run.jobs.answers["platform"] = lambda _, mode=mode: replace(
            PLATFORM, environment={"power_mode": mode}
        )
        run.jobs.answers["trial"] = lambda _: trial
        run.chain.run()
        asked.append(run.jobs.counts["trial"])
    assert asked == [1, 1, 0]


def test_a_known_board_that_has_measured_nothing_predicts_by_its_peak(tmp_path):
    run = Run(tmp_path, device={"board": "orin-nano"})
    run.jobs.answers["platform"] = lambda _: replace(PLATFORM, runtime="tensorrt", scheme="S8S8")
    found = {c.recipe.precision: c.predicted for c in run.chain.run().candidates}
    assert {one.source for one in found.values()} == {"roofline"}
    assert found["int8"].latency_p50_ms < found["fp32"].latency_p50_ms
    assert run.jobs.counts["trial"] == 0
    run = Run(tmp_path, device={"board": "orin-nano"})  # the GPU's peak does not apply to its CPU
    run.jobs.answers["trial"] = lambda _: RunnerError("no")
    assert {c.predicted.source for c in run.chain.run().candidates} == {""}


def searching(tmp_path, times_ms, precisions=("int8",), **tables: Any) -> Run:
    """A fast search over FP32 and INT8 by one calibrator, with the given measurements, by precision."""
    search = {"strategy": "fast", "precisions": list(precisions), "calibrators": ["mse"]}
    run = Run(tmp_path, search=search, **tables)
    run.jobs.answers["trial"] = lambda _: Trial(batch=1, fp32_ms=1.0, int8_ms=3.0)

    def measured(spec: Any) -> Measurements:
        return Measurements(
            measured={name: measurement(times_ms[name.partition("-")[0]]) for name in spec.engines},
            failed={},
        )

    run.jobs.answers["measure"] = measured
    return run


def test_a_fast_search_does_not_even_calibrate_what_is_predicted_to_be_slower(tmp_path):
    run = searching(tmp_path, {"fp32": 1.0, "int8": 3.0})
    found = {c.id: c for c in run.chain.run().candidates}
    assert list(found) == ["fp32", "int8-mse"]
    assert "not built: predicted" in found["int8-mse"].failure
    assert run.jobs.counts["statistics"] == 0
    assert (run.jobs.counts["build"], run.jobs.counts["measure"]) == (1, 1)


@pytest.mark.parametrize(
    ("fp32_ms", "limit_ms"), [(2.9, 0.0), (1.0, 0.5)], ids=["slower than thought", "infeasible"]
)
def test_a_fast_search_that_leaves_a_doubt_is_repeated_with_all_candidates(
    tmp_path, fp32_ms, limit_ms
):
    run = searching(tmp_path, {"fp32": fp32_ms, "int8": 3.0}, limits={"latency_p99_ms": limit_ms})
    found = run.chain.run().candidates
    assert [bool(c.measurement) for c in found] == [True, True]
    assert not [c for c in found if c.failure or c.left_out]
    assert (run.jobs.counts["build"], run.jobs.counts["measure"]) == (2, 2)
    asked = [spec for kind, spec in run.jobs.asked if kind == "measure"]
    assert [spec.fast for spec in asked] == [True, False]


@pytest.mark.parametrize("kind", ["quantize", "build", "evaluate"])
def test_what_failed_in_a_fast_search_is_not_tried_again_in_the_full_one(tmp_path, kind):
    run = searching(tmp_path, {"fp32": 2.9, "int8": 3.0}, ["int8", "int8-mixed"])
    mixed: set[object] = set()
    tried: list[str] = []

    def of_mixed(stage: str, spec: Any) -> bool:
        if stage == "quantize":
            return spec.recipe.precision == "int8-mixed"
        return (spec.quantized if stage == "build" else spec.engine.digest) in mixed

    def answering(stage: str) -> Any:
        def answer(spec: Any) -> object:
            if not of_mixed(stage, spec):
                return ANSWERS[stage](spec)
            tried.append(stage)
            mixed.add(spec.digest)
            return JobError("killed", code="died") if stage == kind else ANSWERS[stage](spec)

        return answer

    run.jobs.answers |= {stage: answering(stage) for stage in ("quantize", "build", "evaluate")}
    found = {c.id: c for c in run.chain.run().candidates}
    assert tried.count(kind) == 1
    assert found["int8-mixed-1"].failure == "killed"
    assert found["int8-mse"].measurement
    assert run.jobs.counts["measure"] == 2


def test_the_same_file_made_for_another_state_of_the_machine_is_another_release(tmp_path):
    """Else an engine that an upgrade leaves as it was would stay outdated for ever."""
    run = Run(tmp_path)
    outcome = run.chain.run()
    image = TensorSpec(name="x", shape=(1, 3, 4, 4), dtype="float32")
    outcome = replace(outcome, model=replace(outcome.model, inputs=(image,)))
    chosen = outcome.candidates[-1]
    later = replace(outcome, platform=replace(PLATFORM, environment={**HERE, "l4t": "36.5.0"}))
    facts = [model_json(run.chain.config, one, chosen) for one in (outcome, outcome, later)]
    assert facts[0]["identity"] == facts[1]["identity"] != facts[2]["identity"]
    assert facts[2]["runtime"]["l4t"] == "36.5.0"
    assert facts[0]["lineage"]["statistics"] == outcome.counted.digest
    assert facts[0]["lineage"]["conditioned"] == outcome.counted.model


def test_a_release_states_how_its_engine_was_launched(tmp_path):
    run = Run(tmp_path)
    outcome = run.chain.run()
    image = TensorSpec(name="x", shape=(1, 3, 4, 4), dtype="float32")
    outcome = replace(outcome, model=replace(outcome.model, inputs=(image,)))
    chosen = outcome.candidates[-1]
    assert model_json(run.chain.config, outcome, chosen)["launched"] is None
    chosen = replace(chosen, measurement=replace(chosen.measurement, launched="CUDA graph"))
    assert model_json(run.chain.config, outcome, chosen)["launched"] == "CUDA graph"


def measured_elsewhere(**changed: Any) -> FleetFigure:
    figure = FleetFigure(
        precision="int8", batch=1, power_mode="", latency_ms=7.0, power_w=None, count=3,
        origin="fleet.csv",
    )  # fmt: skip
    return replace(figure, **changed)


def test_other_devices_are_asked_about_only_where_a_file_is_named(tmp_path):
    Run(tmp_path).chain.run()  # which would ask a job that has no answer
    run = Run(tmp_path, search={"fleet": "/fleet.csv"})
    run.jobs.answers["fleet"] = lambda _: Fleet(figures=(measured_elsewhere(),))
    found = {c.id: c.predicted for c in run.chain.run().candidates}
    assert found["int8-mse"].latency_p50_ms == 7.0
    assert found["int8-mse"].source == "fleet"
    assert found["fp32"].latency_p50_ms is None
    assert run.jobs.counts["fleet"] == 1


def test_a_bad_file_of_other_devices_is_an_error_before_anything_is_captured(tmp_path):
    run = Run(tmp_path, search={"fleet": "/fleet.csv"})
    run.jobs.answers["fleet"] = lambda _: ConfigError("line 3: no number")
    with pytest.raises(ConfigError, match="line 3"):
        run.chain.run()
    assert run.jobs.counts["capture"] == 0


def test_a_missing_sensor_set_by_name_is_an_error_before_anything_is_captured(tmp_path):
    run = Run(tmp_path, measure={"power": "jtop"})
    run.jobs.answers["sensor"] = lambda _: PowerError("the service is not active")
    with pytest.raises(PowerError, match="not active"):
        run.chain.run()
    assert not run.jobs.counts.keys() & {"capture", "quantize", "build"}


@pytest.mark.parametrize(
    ("power", "sensor", "objective", "warned"),
    [
        ("auto", "", "energy", True),
        ("none", "", "power", True),
        ("auto", "rapl, rail package", "energy", False),
        ("auto", "", "latency", False),
    ],
)
def test_unknown_power_that_decides_is_a_warning_before_anything_is_captured(
    tmp_path, caplog, power, sensor, objective, warned
):
    run = Run(tmp_path, measure={"power": power}, objective={"minimize": objective})
    run.jobs.answers["sensor"] = lambda _: sensor
    run.jobs.answers["capture"] = lambda _: CameraError("no frames")
    with pytest.raises(CameraError):
        run.chain.run()
    assert ("no_power_sensor" in caplog.text) is warned
    assert run.jobs.counts["sensor"] == (power == "auto" and objective == "energy")


def test_what_was_seen_in_one_power_mode_predicts_for_that_mode_only(tmp_path):
    run = Run(tmp_path, search={"power_modes": ["7W", "15W"], "precisions": ["fp32"]})
    run.jobs.answers["platform"] = lambda _: replace(
        PLATFORM, environment={"power_mode": "15W", "power_modes": "7W, 15W"}
    )
    run.jobs.answers["trial"] = lambda _: Trial(batch=1, fp32_ms=2.0, int8_ms=1.0)
    found = {c.id: c.predicted.source for c in run.chain.run().candidates}
    assert found == {"fp32@7W": "", "fp32@15W": "trial"}


@pytest.mark.parametrize(
    "begin",
    [Chain.run, single._capture, single._quantize, single._build],
    ids=lambda one: one.__name__,
)
def test_no_way_to_a_frame_leads_past_the_names_and_shapes_of_a_decoding(tmp_path, begin):
    decode = {"kind": "centers", "scores": "537", "sizes": "538", "offsets": "539"}
    run = Run(tmp_path, model={"task": {"kind": "detection", "decode": decode}})
    with pytest.raises(ConfigError, match=r'decode\.scores = "537" is no output') as caught:
        begin(run.chain)
    assert caught.value.code == "decode"
    assert "capture" not in run.jobs.counts
