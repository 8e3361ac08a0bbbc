"""A device that ran quantd 0.1 is taken over as it is: its releases, its frames, its commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import Broker, any_broker
from tests.support.earlier import FIRST, SECOND, UNFINISHED, unpack_state
from tests.support.fleet import Console, DaemonProcess
from tests.support.scene import quantd, write_config

pytestmark = pytest.mark.slow


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with any_broker(tmp_path) as found:
        yield found


def device(folder: Path, **tables: dict[str, object]) -> Path:
    """Return the configuration of a device with the state of 0.1."""
    unpack_state(folder)
    search = {"precisions": ["fp32", "int8"], "calibrators": ["minmax"]}
    return write_config(folder, search=search, **tables)


def test_a_person_goes_on_where_it_was(tmp_path: Path) -> None:
    config = device(tmp_path)
    current = tmp_path / "state" / "current"
    for verb, release in ((["rollback"], FIRST), (["activate", SECOND], SECOND)):
        done = quantd(*verb, "-c", config, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["state"] == "active"
        assert current.resolve().name == release
    done = quantd("optimize", "-c", config, "--reuse-calibration", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    before = json.loads((tmp_path / "state" / "releases" / SECOND / "model.json").read_bytes())
    assert report["calibration"]["digest"] == before["lineage"]["calibration"]
    assert report["calibration"]["reused"]
    assert report["activation"]["previous"] == SECOND
    assert "release_damaged" not in done.stderr
    shown = json.loads(quantd("status", "-c", config, "--json").stdout)
    assert shown["releases"] == [FIRST, SECOND, report["run_id"]]


def test_the_daemon_ends_what_that_of_0_1_had_begun(tmp_path: Path, broker: Broker) -> None:
    config = device(
        tmp_path,
        mqtt={"host": broker.host, "port": broker.port},
        commands={"require_signature": False},
    )
    with Console(broker.host, broker.port, "cam-1") as console, DaemonProcess(config) as daemon:
        answers = [console.result(command, 180) for command in ("opt1", "opt2")]
        assert [one["stage"] for one in answers] == ["SUCCEEDED", "SUCCEEDED"], answers
        assert answers[0]["result_ref"].endswith(UNFINISHED)
        assert daemon.stop() == 0
    log = daemon.log.read_text()
    assert "release_unusable" not in log
    assert "Traceback" not in log
    ids = json.loads(quantd("status", "-c", config, "--json").stdout)["releases"]
    assert SECOND in ids
