"""`quantd report --predictions`: how near past predictions came."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli import main
from agent.config import load
from agent.core.prediction.history import PastMeasurement
from agent.wiring import storage


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "quantd.toml"
    file.write_text(f'[storage]\ndir = "{tmp_path}"\n')
    return str(file)


def remember(config: str, **changed: object) -> None:
    facts = {
        "model": "5" * 64, "precision": "int8", "runtime": "onnxruntime", "batch": 1,
        "power_mode": "", "macs": 1, "latency_p50_ms": 12.0, "energy_j": None,
        "predicted_ms": 10.0, "low_ms": 8.0, "high_ms": 11.0, "source": "trial",
        "utc": "2026-11-23T10:15:00.000Z",
    }  # fmt: skip
    with storage.journal(load(config)) as journal:
        journal.record(PastMeasurement(**{**facts, **changed}))


def test_without_a_checked_prediction_there_is_a_note(config, capsys):
    assert main(["report", "--predictions", "-c", config]) == 0
    assert "no prediction has been checked yet" in capsys.readouterr().err


def test_people_see_what_was_off_and_what_the_interval_missed(config, capsys):
    remember(config)
    remember(config, precision="fp32", latency_p50_ms=10.5)
    assert main(["report", "--predictions", "-c", config]) == 0
    shown = capsys.readouterr().err
    assert "10.000 [8.000, 11.000]" in shown
    assert "+20.0%" in shown
    assert shown.count("OUTSIDE") == 1
    assert "50%" in shown  # of the intervals contained it


def test_programs_get_every_pair_and_the_accuracy(config, capsys):
    remember(config)
    remember(config, predicted_ms=None)
    assert main(["report", "--predictions", "-c", config, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (pair,) = found["predictions"]
    assert (pair["predicted_ms"], pair["latency_p50_ms"], pair["source"]) == (10.0, 12.0, "trial")
    assert [one["source"] for one in found["accuracy"]] == ["trial", "all"]
    assert found["accuracy"][0]["median_off"] == pytest.approx(0.2)
