"""Fidelity and memory through engines whose outputs and appetite the test decides."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest

from agent.core.errors import RunnerError
from agent.core.fidelity.comparison import Comparison
from agent.core.records import Digest, Evaluation
from agent.stages.evaluate import check_release, evaluate
from tests.fakes.runners import FakeClock, FakeRunner
from tests.support.candidates import engine

MEGABYTE = 1_000_000
FRAMES = [{"x": np.array([[value, 2.0, -value]])} for value in (1.0, 3.0, 5.0, 7.0)]


def plain(inputs):
    return {"y": inputs["x"]}


def flipped(inputs):
    return {"y": -inputs["x"]}


class Appetite:
    """Resident memory that loading takes and leaving gives back."""

    def __init__(self) -> None:
        self.bytes = 50 * MEGABYTE
        self.readings: list[str] = []

    def runner(self, name: str, megabytes: int, function=plain, **settings: Any) -> FakeRunner:
        appetite = self

        class Hungry(FakeRunner):
            def __enter__(self):
                appetite.readings.append(name)
                appetite.bytes += megabytes * MEGABYTE
                return super().__enter__()

        return Hungry(FakeClock(), function=function, name=name, **settings)

    def __call__(self) -> int:
        self.readings.append("memory")
        return self.bytes


def judge(runner, baseline, appetite, *, kind="generic", metric=None, **ports) -> Evaluation:
    given = {"tensors": lambda: iter(FRAMES), "progress": lambda *_: None}
    return evaluate(
        ports.pop("engine", engine(name="int8")),
        digest=Digest("d"),
        make_runner=lambda: runner,
        make_baseline=lambda: baseline,
        comparison=lambda: Comparison(kind, metric),
        memory=appetite,
        **given | ports,
    )


def test_memory_is_the_engines_growth_without_the_baseline():
    appetite = Appetite()
    found = judge(appetite.runner("int8", 25), appetite.runner("fp32", 400), appetite)
    assert found.memory_mb == 25.0
    assert appetite.readings == ["memory", "int8", "memory", "fp32"]
    assert (found.digest, found.engine) == ("d", "int8")


def test_memory_on_the_device_counts_too():
    appetite = Appetite()
    runner = appetite.runner("int8", 25, on_device_bytes=40 * MEGABYTE)
    found = judge(runner, appetite.runner("fp32", 400), appetite)
    assert (found.memory_mb, found.memory_reason) == (65.0, "")


def test_memory_of_a_device_that_is_not_reported_is_null_with_a_reason():
    appetite = Appetite()
    runner = appetite.runner("int8", 25, on_device_bytes=None)
    found = judge(runner, appetite.runner("fp32", 400), appetite)
    assert found.memory_mb is None
    assert "GPU's memory" in found.memory_reason


def test_reading_the_first_frames_is_not_the_engines_memory():
    appetite = Appetite()

    def tensors():
        appetite.bytes += 30 * MEGABYTE
        yield from FRAMES

    found = judge(
        appetite.runner("int8", 25), appetite.runner("fp32", 0), appetite, tensors=tensors
    )
    assert found.memory_mb == 25.0


def test_an_engine_with_the_baselines_outputs_is_identical():
    appetite = Appetite()
    found = judge(appetite.runner("fp32", 1), appetite.runner("fp32", 1), appetite)
    assert (found.identical, found.fidelity.sqnr_db, found.fidelity.cosine) == (True, None, 1.0)
    assert found.fidelity.frames == 4


def test_every_held_out_frame_runs_through_both():
    appetite = Appetite()
    reported = []
    runner = appetite.runner("int8", 1, flipped)
    found = judge(
        runner,
        appetite.runner("fp32", 1),
        appetite,
        kind="classification",
        progress=lambda *one: reported.append(one[0]),
    ).fidelity
    assert found.sqnr_db == pytest.approx(10 * np.log10(1 / 4))
    assert found.cosine == pytest.approx(-1)
    assert found.task == {"top1": 0.0}
    assert reported == [1, 2, 3, 4]
    assert [one["x"][0, 0] for one in runner.bound[-4:]] == [1, 3, 5, 7]


def test_frames_of_a_batch_are_counted():
    appetite = Appetite()
    found = judge(
        appetite.runner("int8", 1),
        appetite.runner("fp32", 1),
        appetite,
        engine=engine(name="int8", batch=8),
    )
    assert found.fidelity.frames == 32


def test_a_users_metric_is_called():
    appetite = Appetite()
    found = judge(
        appetite.runner("int8", 1),
        appetite.runner("fp32", 1),
        appetite,
        kind="mine:metric",
        metric=lambda expected, seen: 0.25,
    )
    assert found.fidelity.agreement == 0.25


def test_outputs_that_are_not_finite_end_the_candidate():
    appetite = Appetite()
    broken = appetite.runner("int8", 1, lambda inputs: {"y": inputs["x"] * np.nan})
    with pytest.raises(RunnerError, match="NaN"):
        judge(broken, appetite.runner("fp32", 1), appetite)
    assert not broken.entered


def test_an_engine_that_does_not_load_or_run_is_reported():
    appetite = Appetite()
    with pytest.raises(RunnerError, match="does not load"):
        judge(appetite.runner("int8", 1, loads=False), appetite.runner("fp32", 1), appetite)
    with pytest.raises(RunnerError, match="failed in run 2"):
        judge(appetite.runner("int8", 1, fails_at=2), appetite.runner("fp32", 1), appetite)


def test_fewer_frames_than_the_batch_is_reported_before_anything_is_loaded():
    appetite = Appetite()
    with pytest.raises(RunnerError, match="batch of 8") as caught:
        judge(
            appetite.runner("int8", 1),
            appetite.runner("fp32", 1),
            appetite,
            engine=engine(batch=8),
            tensors=lambda: iter([]),
        )
    assert caught.value.hint
    assert appetite.readings == []


@pytest.fixture(params=[1, 2], ids=["schema 1", "schema 2"])
def release(tmp_path, request):
    """A release, of which schema 1 gave the shapes of batch 1 for any batch."""
    (tmp_path / "model.onnx").write_bytes(b"graph")
    facts = {
        "schema": request.param,
        "batch": 2,
        "inputs": [{"name": "x", "shape": [request.param, 3, 4, 4], "dtype": "uint8"}],
        "runtime": {"kind": "onnxruntime"},
        "engine": {"file": "model.onnx", "sha256": hashlib.sha256(b"graph").hexdigest()},
    }
    (tmp_path / "model.json").write_text(json.dumps(facts))
    return tmp_path


def test_a_release_is_run_once_on_a_black_batch(release):
    runner = FakeRunner(FakeClock())
    check_release(release, lambda kind, path: runner, lambda made_for: "")
    (bound,) = runner.bound
    assert (bound["x"].shape, bound["x"].dtype, bound["x"].max()) == ((2, 3, 4, 4), np.uint8, 0)
    assert runner.count == 1


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.onnx", b"other"),
        ("model.json", b"{"),
        ("model.json", b"[]"),
        ("model.json", b'{"engine": {"file": "../../etc/passwd"}}'),
    ],
)
def test_a_damaged_release_is_reported(release, file, content):
    (release / file).write_bytes(content)
    with pytest.raises(RunnerError) as caught:
        check_release(release, lambda *_: FakeRunner(FakeClock()), lambda made_for: "")
    assert caught.value.code == "bad_release"


def test_an_engine_of_another_device_is_refused_before_it_is_loaded(release):
    asked = []

    def refusal(made_for):
        asked.append(made_for)
        return "compute capability 8.7, now 11.0"

    runner = FakeRunner(FakeClock())
    with pytest.raises(RunnerError, match=r"another device: compute capability 8.7, now") as caught:
        check_release(release, lambda *_: runner, refusal)
    assert (caught.value.code, runner.count) == ("other_device", 0)
    assert asked == [{"kind": "onnxruntime"}]
