"""Switches of releases by real processes that are killed, stopped, or begun side by side.

The application's view is a file that the reload command writes: the release it loaded last.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.adapters.storage.releases import FileReleases
from tests.support.broker import any_broker
from tests.support.fleet import Console, DaemonProcess
from tests.support.polling import until
from tests.support.scene import quantd, write_config

pytestmark = pytest.mark.slow
R1, R2 = "20260101T000000000-0001", "20260102T000000000-0002"
TABLES = {"search": {"precisions": ["fp32"]}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a release that loads."""
    folder = tmp_path_factory.mktemp("made")
    done = quantd("optimize", "-c", write_config(folder, **TABLES))
    assert done.returncode == 0, done.stderr
    return (folder / "state" / "current").resolve()


class Device:
    """A storage folder with two releases, r1 active, and an application."""

    def __init__(self, folder: Path, made: Path) -> None:
        self.folder = folder
        for release in (R1, R2):
            target = folder / "state" / "releases" / release
            shutil.copytree(made, target)
            (target / ".mark.json").unlink(missing_ok=True)
        self.releases = FileReleases(str(folder / "state"))
        self.releases.mark(R1, good=True)
        self.releases.switch(R1)
        self.loaded = folder / "loaded"
        self.slow = folder / "slow"  # while it exists, a reload does not end

    def config(self, health: str = "true", **tables: dict[str, object]) -> Path:
        reload = f'echo "$QUANTD_RELEASE" >> {self.loaded}; while [ -e {self.slow} ]; do sleep 0.05; done'
        commands = {"reload": ["sh", "-c", reload], "health": ["sh", "-c", health]}
        return write_config(self.folder, activation=commands, **TABLES, **tables)

    def loads(self) -> list[str]:
        return self.loaded.read_text().split() if self.loaded.exists() else []

    def until_reloading(self, count: int = 1) -> None:
        until(lambda: len(self.loads()) >= count)


@pytest.fixture
def device(tmp_path: Path, made: Path) -> Device:
    return Device(tmp_path, made)


def begin(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "agent", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def test_a_switch_cut_in_its_reload_is_not_resumed_without_its_health(device: Device) -> None:
    device.slow.touch()
    first = begin("activate", R2, "-c", device.config())
    device.until_reloading()
    first.kill()
    first.communicate()
    device.slow.unlink()
    done = quantd("activate", R2, "-c", device.config(health="exit 3"), "--json")
    assert done.returncode == 4, done.stderr
    assert json.loads(done.stdout)["state"] == "rolled_back"
    assert device.releases.current() == R1
    assert device.loads() == [R2, R1, R2, R1]  # begun, recovered, tried, rolled back
    status = json.loads(quantd("status", "-c", device.config(), "--json").stdout)
    assert status["marks"] == {R1: "good", R2: "bad: `sh -c exit 3` ended with 3"}


def test_a_daemon_that_starts_meanwhile_leaves_the_switch_alone(device: Device) -> None:
    device.slow.touch()
    config = device.config()
    first = begin("activate", R2, "-c", config, "--json")
    device.until_reloading()
    with DaemonProcess(config) as daemon:
        until(lambda: "recovery_put_off code=locked" in daemon.log.read_text())
        refused = quantd("rollback", "-c", config, "--no-wait", "--json")
        assert refused.returncode == 1
        error = json.loads(refused.stdout)["error"]
        assert error["code"] == "locked"
        assert f"`quantd activate` (process {first.pid}" in error["message"]
        assert device.loads() == [R2]
        device.slow.unlink()
        out, _ = first.communicate(timeout=60)
        assert (first.returncode, json.loads(out)["state"]) == (0, "active")
        assert daemon.stop() == 0
    assert device.loads() == [R2]
    assert device.releases.current() == R2


def test_a_second_daemon_of_the_same_storage_is_refused(device: Device) -> None:
    with DaemonProcess(device.config()) as daemon:
        until(lambda: "release_fits" in daemon.log.read_text())
        assert daemon.process is not None
        second = quantd("run", "-c", device.folder / "quantd.toml")
        assert second.returncode == 1
        assert f"has a daemon already: `quantd run` (process {daemon.process.pid}" in second.stderr
        daemon.kill()
        daemon.start()
        until(lambda: daemon.log.read_text().count("release_fits") == 2)
        assert daemon.stop() == 0


def test_the_second_waits_and_then_acts_on_what_the_first_left(device: Device) -> None:
    device.slow.touch()
    config = device.config()
    first = begin("activate", R2, "-c", config)
    device.until_reloading()
    second = begin("rollback", "-c", config)
    assert second.stderr is not None
    assert "waiting for `quantd activate`" in second.stderr.readline()
    device.slow.unlink()
    first.communicate(timeout=60)
    second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert device.loads() == [R2, R1]
    assert device.releases.current() == R1


def test_a_command_shows_what_it_waits_for_and_can_be_cancelled(device: Device) -> None:
    with any_broker(device.folder) as broker:
        config = device.config(
            mqtt={"host": broker.host, "port": broker.port},
            commands={"require_signature": False},
        )
        device.slow.touch()
        first = begin("activate", R2, "-c", config)
        device.until_reloading()
        with Console(broker.host, broker.port, "cam-1") as console, DaemonProcess(config):
            console.wait("state", lambda m: m["status"] == "online")
            console.command("c1", {"type": "rollback"})
            shown = console.wait("res/c1", lambda m: (m["progress"] or {}).get("step") == "waiting")
            assert f"for `quantd activate` (process {first.pid}" in json.dumps(shown)
            console.command("k1", {"type": "cancel", "args": {"target": "c1"}})
            assert console.result("c1")["stage"] == "CANCELED"
            device.slow.unlink()
            first.communicate(timeout=60)
    assert device.loads() == [R2]
    assert device.releases.current() == R2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_in_a_reload_undo_the_switch(
    device: Device, number: signal.Signals
) -> None:
    device.slow.touch()
    running = begin("activate", R2, "-c", device.config())
    device.until_reloading()
    os.kill(running.pid, number)
    device.until_reloading(2)
    device.slow.unlink()
    running.communicate(timeout=30)
    assert running.returncode == 130
    assert device.loads() == [R2, R1]
    assert device.releases.current() == R1
    assert device.releases.pending() is None


def test_a_stop_does_not_wait_for_a_reload_and_the_next_start_completes_it(
    device: Device,
) -> None:
    with any_broker(device.folder) as broker:
        config = device.config(
            mqtt={"host": broker.host, "port": broker.port},
            commands={"require_signature": False},
        )
        device.slow.touch()
        with Console(broker.host, broker.port, "cam-1") as console, DaemonProcess(config) as daemon:
            console.wait("state", lambda m: m["status"] == "online")
            console.command("c1", {"type": "activate", "args": {"release": R2}})
            device.until_reloading()
            begin_s = time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - begin_s < 15  # the reload would never end
            assert device.releases.current() == R1
            daemon.start()  # and is stopped again while it recovers
            device.until_reloading(2)
            assert daemon.stop() == 0
            assert device.releases.pending() is not None
            device.slow.unlink()
            daemon.start()
            assert console.result("c1")["stage"] == "SUCCEEDED"
            assert daemon.stop() == 0
    assert device.loads() == [R2, R1, R1, R2]
    assert device.releases.current() == R2
