"""What the fleet measured helps the next device predict."""

from __future__ import annotations

import io
import json

import pytest

from agent.cli import main
from agent.core.frames.profile import parse_profile
from agent.core.prediction.priors import figures
from agent.fleet.export import export
from agent.fleet.storage.sqlite import SqliteFleetStore
from tests.support.fleet_messages import inventory, received, report
from tests.support.simulated_fleet import fill, report_json

SHA256 = "ab" * 32


@pytest.fixture
def store(tmp_path):
    found = SqliteFleetStore(str(tmp_path / "fleet.db"))
    yield found
    found.close()


def exported(store):
    written = io.StringIO()
    count = export(store, written)
    rows = parse_profile(written.getvalue().splitlines(), frames=False)
    assert len(rows) == count
    return rows


def test_a_device_predicts_by_what_others_measured(store):
    fill(store, 4)
    rows = exported(store)
    here = {"runtime": ["onnxruntime"], "board": ["orin-nano", "orin-nx", "agx-orin"]}
    found = {one.precision: one for one in figures(rows, [SHA256], here, "fleet.csv")}
    measured = {
        one["precision"]: one["measured"]["latency_ms"]["p50"]
        for one in json.loads(report_json("cam-0"))["candidates"]
        if one["measured"] and one["precision"] == "fp32"
    }
    assert found["fp32"].latency_ms == measured["fp32"]
    assert found["fp32"].count == 4


@pytest.mark.parametrize(
    "changed",
    [
        (b'"precision": "fp32"', b'"precision": "=HYPERLINK(1)"'),
        (b'"precision": "fp32"', b'"precision": ["x"]'),
        (b'"runtime": "onnxruntime"', b'"runtime": "a\\nb"'),
        (b'"p50": ', b'"p50": -'),
        (b'"batch": 1', b'"batch": 1e999'),
    ],
)  # fmt: skip
def test_what_a_device_reports_is_checked(store, changed):
    body = report_json("cam-1")
    assert changed[0] in body
    fill(store, 1)
    store.write([received(inventory()), received(report(body=body.replace(*changed)))], [])
    for one in exported(store):
        assert one.latency_ms > 0
        assert not one.precision.startswith("=")


def test_alike_rows_are_bounded(store, monkeypatch):
    monkeypatch.setattr("agent.fleet.export._OF_A_KIND", 2)
    fill(store, 12)
    kinds = [(one.board, one.precision, one.runtime) for one in exported(store)]
    assert max(map(kinds.count, kinds)) <= 6  # of INT8 there are several calibrators


def test_the_verb_writes_the_file(store, tmp_path, capsys):
    fill(store, 2)
    file = tmp_path / "fleet.csv"
    assert (
        main(["fleet", "export", "--database", str(tmp_path / "fleet.db"), "--output", str(file)])
        == 0
    )
    assert parse_profile(file.read_text().splitlines(), frames=False)
    assert "measurements, for search.fleet" in capsys.readouterr().err
    assert main(["fleet", "export", "--database", str(tmp_path / "fleet.db")]) == 0
    assert capsys.readouterr().out == file.read_text()


@pytest.mark.parametrize("action", ["export", "devices", "workers"])
def test_reading_a_database_that_does_not_exist_is_an_error_and_makes_none(
    action, tmp_path, capsys
):
    file = tmp_path / "fleet.db"
    assert main(["fleet", action, "--database", str(file)]) == 2
    assert "there is no database" in capsys.readouterr().err
    assert not file.exists()
