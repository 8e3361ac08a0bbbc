"""Specs: every kind is complete, and a child reads what a run wrote."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, get_type_hints

import msgspec
import pytest

from agent import config as configuration
from agent.core import records
from agent.core.errors import JobError, RunnerError
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.task import Task
from agent.core.frames.pixels import PIXELS
from agent.core.prediction.predict import Trial
from agent.core.prediction.priors import Fleet
from agent.core.records import CleanModel, Digest, Platform, PowerTrace, Recipe
from agent.jobs import child, kinds
from agent.wire import jobs as specs
from agent.wire.job_lines import Line, Raised
from agent.wire.job_spec import Spec
from tests.support.candidates import candidate, engine, evaluation, measurement
from tests.support.reports import report_of

CONFIG = configuration.from_dump(
    {"camera": {"uri": "file:///x"}, "measure": {"idle_s": 7.5}, "calibration": {"window_s": 9.0}}
)
PLATFORM = Platform(
    runtime="onnxruntime", runtime_version="1", scheme="U8S8", fp16_reason="", device="cpu",
    environment={"power_mode": "15W"},
)  # fmt: skip
A, B, C = (Digest(letter * 64) for letter in "abc")
RECORD: dict[str, Any] = {"config": CONFIG, "digest": A, "work": "/work"}
EXAMPLES: list[Spec[Any]] = [
    specs.FindPlatform(config=CONFIG),
    specs.FindSensor(config=CONFIG),
    specs.LookIntoModel(config=CONFIG),
    specs.LookAtCamera(config=CONFIG),
    specs.LookUnderPresets(config=CONFIG, choices=PIXELS),
    specs.ReadFleet(config=CONFIG, model=A, platform=PLATFORM),
    specs.TimeTrial(**RECORD, model=B, batch=2, platform=PLATFORM),
    specs.CleanGraph(**RECORD, sha256="e3"),
    specs.CaptureFrames(**RECORD, seed=3),
    specs.CheckIntake(**RECORD, model=B, calibration=C),
    specs.ConditionModel(**RECORD, model=B, calibration=C, scheme="U8S8"),
    specs.CollectStatistics(**RECORD, conditioned=A, model=B, calibration=C, extends=None),
    specs.QuantizeModel(
        **RECORD, model=B, calibration=C, conditioned=A, statistics=None,
        recipe=Recipe(precision="int8", calibrator="mse", scheme="U8S8"),
    ),
    specs.TimeLayers(
        **RECORD, int8=engine(), floating=engine(), precision="fp32", scheme="U8S8", model=B,
        calibration=C, conditioned=A, statistics=B,
    ),
    specs.FindFront(
        **RECORD, scheme="U8S8", model=B, calibration=C, conditioned=A, statistics=B, speeds=C,
        weighed_by="times",
    ),
    specs.BuildEngine(**RECORD, quantized=B, batch=4, platform=PLATFORM, dla_core=-1),
    specs.EvaluateEngine(**RECORD, engine=engine(), baseline=engine(), model=B, calibration=C),
    specs.MeasureEngines(
        **RECORD, engines={"int8-mse@15W, b 4": engine()}, power_mode=None, baselines=("fp32",),
        same_graph_alternatives={"a": "b"}, seed=1, fast=True, model=B, calibration=C,
    ),
    specs.ProfileEngines(
        **RECORD, engines={"fp32": engine(), "int8-mse@15W, b 4": engine()},
        baselines={"int8-mse@15W, b 4": "fp32"}, model=B, calibration=C,
    ),
    specs.CheckRelease(config=CONFIG, release="r1"),
    specs.ShowScenes(
        config=CONFIG, engines={"fp32": engine(), "int8-mse": engine()}, model=B, calibration=C,
        task=Task(kind="detection", decoding=Decoding(kind="yolo"), names=("person",)),
    ),
    specs.RenderPage(
        config=CONFIG, report=report_of([candidate("fp32", measurement(), evaluation())]), calibration=C, traces=(PowerTrace(),),
        sketches_ms={"fp32": (1.0, 2.5)},
    ),
]  # fmt: skip


def every_kind(base: Any = Spec) -> Iterator[type[Spec[Any]]]:
    """Yield the classes without subclasses: the kinds."""
    for kind in base.__subclasses__():
        if kind.__subclasses__():
            yield from every_kind(kind)
        else:
            yield kind


def test_every_kind_of_job_has_a_function_a_name_and_an_example():
    found = list(every_kind())
    assert set(found) == set(kinds.KINDS) == {type(one) for one in EXAMPLES}
    assert len({kind.__struct_config__.tag for kind in found}) == len(found) == len(EXAMPLES)


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.__name__)
def test_the_function_of_a_kind_takes_its_spec_and_returns_its_result(kind):
    names = {**vars(records), **vars(specs), **vars(kinds), "Trial": Trial, "Fleet": Fleet}
    hints = get_type_hints(kinds.KINDS[kind], names)
    assert hints["spec"] is kind
    assert hints["return"] is kind.result()


@pytest.mark.parametrize("spec", EXAMPLES, ids=lambda spec: spec.kind)
def test_a_child_reads_the_spec_that_a_run_wrote(spec):
    assert kinds.decode(msgspec.json.encode(spec)) == spec


@pytest.mark.parametrize("spec", EXAMPLES, ids=lambda spec: spec.kind)
def test_a_spec_with_a_field_too_many_or_too_few_is_refused(spec):
    fields = msgspec.to_builtins(spec)
    without = {name: value for name, value in fields.items() if name != "config"}
    for wrong in ({**fields, "sitting": {}}, without, {**fields, "kind": "identify"}):
        with pytest.raises(JobError) as caught:
            kinds.decode(msgspec.json.encode(wrong))
        assert caught.value.code == "bad_spec"


def test_the_time_limit_follows_the_configuration_where_the_work_does():
    limits_s = {spec.kind: spec.timeout_s for spec in EXAMPLES}
    assert (limits_s["capture"], limits_s["measure"]) == (3 * 9.0 + 300, 7.5 + 900)
    assert limits_s["build"] == limits_s["statistics"] == 7200
    assert [spec.kind for spec in EXAMPLES if spec.ended_by_silence] == ["measure"]
    assert [spec.kind for spec in EXAMPLES if spec.ended_by_kernel] == ["build"]


def test_a_parent_that_is_gone_from_the_store_is_an_error(tmp_path):
    config = configuration.from_dump({"storage": {"dir": str(tmp_path)}})
    job = kinds.Job(specs.FindSensor(config=config), lambda *_: None)
    with pytest.raises(RunnerError, match="CleanModel record aaaaaaaaaaaa is gone"):
        job.parent(A, CleanModel)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"kind": "build"}', b"\xff"])
def test_a_child_reports_a_spec_that_it_can_not_read(tmp_path, body, monkeypatch):
    lines = io.BytesIO()
    monkeypatch.setattr(child, "_claim_stdout", lambda: lines)
    monkeypatch.setattr(child, "_prepare_process", lambda: None)
    spec = tmp_path / "spec.json"
    spec.write_bytes(body)
    assert child.main(str(spec)) == JobError("").exit_code
    (line,) = lines.getvalue().splitlines()
    found = msgspec.json.decode(line, type=Line)
    assert isinstance(found, Raised)
    assert (found.error, found.code) == ("JobError", "bad_spec")
