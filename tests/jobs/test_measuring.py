"""What is said of measurements during which the machine was changed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agent import config as configuration
from agent.core.errors import PowerError, RunnerError
from agent.core.records import Digest, Measurements
from agent.jobs import engines, frames, measuring
from agent.wire.jobs import MeasureEngines
from tests.support.candidates import engine, measurement


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("15W", "15W", ""),
        ("15W", "7W", "the power mode changed from 15W to 7W meanwhile"),
        ("", "", ""),
        ("15W", "", ""),  # nvpmodel did not answer in time
    ],
)
def test_a_power_mode_that_something_else_has_set_is_reported(before, after, words):
    found = Measurements(measured={"a": measurement()}, failed={})
    assert measuring._with_mode(found, before, after).measured["a"].mode_change == words


def test_a_machine_without_power_modes_has_none():
    class Without:
        def current(self) -> str:
            raise PowerError("nvpmodel reports no power mode", code="power_mode")

    assert measuring._present(Without()) == ""


def test_engines_that_are_measured_run_at_their_fastest(monkeypatch, tmp_path):
    def runner(*_, timed=False):
        raise RunnerError("timed" if timed else "not timed")

    monkeypatch.setattr(engines, "runner", runner)
    monkeypatch.setattr(frames, "tensors", lambda *_, batch: [{}])
    config = configuration.from_dump(
        {"storage": {"dir": str(tmp_path)}, "measure": {"power": "none"}}
    )
    spec = MeasureEngines(
        config=config, digest=Digest("d"), engines={"a": engine()}, power_mode=None,
        baselines=(), same_graph_alternatives={}, seed=0, fast=False, model=Digest("m"),
        calibration=Digest("c"),
    )  # fmt: skip
    calibration = (SimpleNamespace(holdout=("f",)), tmp_path)
    found = measuring.measure(spec, None, calibration, lambda *_: None)
    assert found.failed == {"a": "timed"}
