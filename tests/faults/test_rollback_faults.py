"""A rollback is one switch with one answer, whatever ends the daemon and whenever."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.broker import any_broker
from tests.support.fleet import Console, DaemonProcess
from tests.support.polling import until
from tests.support.scene import quantd, write_config

pytestmark = pytest.mark.slow
RELEASES = tuple(f"20260101T00000000{number}-abcd" for number in range(5))
ENDS = {"SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "CANCELED", "ROLLED_BACK"}


class Device:
    """A device with five good releases, the newest active; its application notes what it loads."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.state = folder / "state"
        note = 'echo "$1 $QUANTD_RELEASE" >> "$0/loaded"; while [ -e "$0/wait-$1" ]; do sleep 0.02; done'
        self.config = write_config(
            folder,
            mqtt={"host": "127.0.0.1", "port": port},
            commands={"require_signature": False},
            search={"precisions": ["fp32"]},
            activation={
                "reload": ["sh", "-c", note, str(folder), "reload"],
                "health": ["sh", "-c", note, str(folder), "health"],
                "keep": 9,
            },
        )
        done = quantd("optimize", "-c", self.config)
        assert done.returncode == 0, done.stderr
        made = (self.state / "current").resolve()
        for release in RELEASES:
            copy = made.parent / release
            shutil.copytree(made, copy)
            described = json.loads((copy / "model.json").read_bytes()) | {"release": release}
            (copy / "model.json").write_text(json.dumps(described))
        shutil.rmtree(made)
        (self.state / "activation.json").unlink(missing_ok=True)
        (self.state / "current").unlink()
        (self.state / "current").symlink_to(Path("releases", RELEASES[-1]))
        (folder / "loaded").write_text("")

    @property
    def current(self) -> str:
        return (self.state / "current").readlink().name

    def loaded(self) -> list[str]:
        return (self.folder / "loaded").read_text().splitlines()

    def settled(self) -> bool:
        try:
            found = json.loads((self.state / "activation.json").read_bytes())
        except FileNotFoundError:
            return False
        return bool(found["state"] == "active")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[tuple[Device, Console]]:
    with any_broker(tmp_path) as broker, Console(broker.host, broker.port, "cam-1") as console:
        yield Device(tmp_path, broker.port), console


def ends(console: Console, command: str) -> list[str]:
    """Return the final answers to a command, without repetitions of one message."""
    found = {
        message["id"]: message["stage"]
        for kind, message, _ in console.heard
        if kind == f"res/{command}" and message["stage"] in ENDS
    }
    return list(found.values())


def roll_back(
    device: Device, console: Console, name: str, end: Callable[[DaemonProcess], None]
) -> None:
    """Ask for a rollback, end the daemon in it, start it again and wait for the answer."""
    with DaemonProcess(device.config) as daemon:
        until(lambda: any(k == "state" and m["status"] == "online" for k, m, _ in console.heard))
        console.command(name, {"type": "rollback"})
        console.wait(f"res/{name}", lambda m: m["stage"] == "IN_PROGRESS")
        end(daemon)
        for file in device.folder.glob("wait-*"):
            file.unlink()
        daemon.start()
        assert console.result(name)["stage"] == "SUCCEEDED"
        console.command(f"{name}-ping", {"type": "ping"})  # whatever else was to be answered, is
        console.result(f"{name}-ping")
        assert daemon.stop() == 0


def stop(daemon: DaemonProcess) -> None:
    assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("how", "moment"),
    [
        (stop, "reload"),
        (DaemonProcess.kill, "settled"),
        *(
            pytest.param(how, moment, marks=pytest.mark.faults)
            for how, moment in (
                (stop, "health"),
                (stop, "settled"),
                (DaemonProcess.kill, "reload"),
                (DaemonProcess.kill, "health"),
            )
        ),
    ],
)
def test_a_rollback_interrupted_in_mid_switch_is_done_once(
    scene: tuple[Device, Console], how: Callable[[DaemonProcess], None], moment: str
) -> None:
    device, console = scene

    def end(daemon: DaemonProcess) -> None:
        if moment == "settled":
            until(device.settled)
        else:
            until(lambda: f"{moment} {RELEASES[3]}" in device.loaded())
        how(daemon)

    if moment != "settled":
        (device.folder / f"wait-{moment}").touch()
    roll_back(device, console, "c1", end)
    assert device.current == RELEASES[3]
    assert ends(console, "c1") == ["SUCCEEDED"]
    assert {line.split()[1] for line in device.loaded()} <= set(RELEASES[3:])
    assert device.loaded()[-1] == f"health {RELEASES[3]}"


@pytest.mark.faults
@pytest.mark.parametrize("how", [stop, DaemonProcess.kill])
def test_rollbacks_interrupted_at_any_moment_are_done_once_each(
    scene: tuple[Device, Console], how: Callable[[DaemonProcess], None]
) -> None:
    device, console = scene
    source = random.Random(15)
    for number in range(10):
        (device.state / "current").unlink()
        (device.state / "current").symlink_to(Path("releases", RELEASES[-1]))
        for mark in device.state.glob("releases/*/*mark*"):
            mark.unlink()

        def end(daemon: DaemonProcess) -> None:
            time.sleep(source.uniform(0, 3))
            how(daemon)

        roll_back(device, console, f"c{number}", end)
        assert device.current == RELEASES[3]
        assert ends(console, f"c{number}") == ["SUCCEEDED"]
