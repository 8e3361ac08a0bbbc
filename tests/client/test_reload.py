"""A release is followed through switches, and survives its removal."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from agent.adapters.storage.releases import FileReleases
from agent.client import Release, ReleaseError, release_files
from tests.client.test_release import FRAME, SPEC, echo
from tests.support.releases import described

BLACK = np.zeros_like(FRAME)


class Device:
    """Releases that quantd makes, switches to and removes; engine n adds n to its input."""

    def __init__(self, tmp_path: Path) -> None:
        self.releases = FileReleases(str(tmp_path / "state"))
        self.current = tmp_path / "state" / "current"
        self._models = tmp_path

    def activate(self, number: int, **changed: object) -> None:
        model = echo(self._models / f"{number}.onnx", add=float(number))
        facts = described(model, SPEC, release=f"r{number}", **changed)
        files = {"model.onnx": str(model), "model.json": json.dumps(facts).encode()}
        self.releases.create(f"r{number}", files)
        self.releases.switch(f"r{number}")

    def collect(self, number: int) -> None:
        self.releases._remove(f"r{number}")


@pytest.fixture
def device(tmp_path: Path) -> Device:
    found = Device(tmp_path)
    found.activate(1)
    return found


def seen(release: Release) -> int:
    return int(release(BLACK)["y"].max())


def test_a_switch_is_followed_when_the_application_asks(device):
    with Release(device.current) as release:
        assert not release.reload_if_changed()
        device.activate(2)
        assert (release.name, seen(release)) == ("r1", 1)
        assert release.reload_if_changed()
        assert (release.name, seen(release)) == ("r2", 2)
        assert not release.reload_if_changed()
        device.releases.switch("r1")
        assert release.reload_if_changed()
        assert seen(release) == 1


def test_a_release_made_again_under_its_name_is_another_one(device):
    with Release(device.current) as release:
        device.activate(1)
        assert release.reload_if_changed()


def test_an_open_release_survives_its_removal(device):
    with Release(device.current) as release:
        device.activate(2)
        device.collect(1)
        assert seen(release) == 1
        device.releases.switch(None)
        assert not release.reload_if_changed()
        assert seen(release) == 1


def test_a_release_that_is_refused_is_reported_once_and_the_open_one_stays(device):
    with Release(device.current) as release:
        device.activate(2, runtime={"providers": ["RocketExecutionProvider"]})
        with pytest.raises(ReleaseError, match="RocketExecutionProvider"):
            release.reload_if_changed()
        assert not release.reload_if_changed()
        assert seen(release) == 1
        device.activate(3)
        assert release.reload_if_changed()
        assert seen(release) == 3


@pytest.mark.parametrize("removed", ["model.json", "model.onnx"])
def test_a_release_that_is_removed_while_it_is_read_is_read_again_from_the_next(
    device, monkeypatch, removed
):
    """The folder is kept open, so that files of two releases can't be mixed."""
    read = release_files._read
    switched = []

    def reading(folder: int, name: str, most: int = -1) -> bytes:
        if name == removed and not switched:
            switched.append(True)
            device.activate(2)
            device.collect(1)
        return read(folder, name, most)

    monkeypatch.setattr(release_files, "_read", reading)
    with Release(device.current) as release:
        assert (release.name, seen(release)) == ("r2", 2)
    assert switched


def test_no_read_is_torn_while_releases_come_and_go(device):
    """Each release that is loaded is whole: its engine is the one that its model.json describes."""
    done = threading.Event()

    def switch() -> None:
        for number in range(2, 12):
            device.activate(number)
            if number > 2:
                device.collect(number - 2)
        done.set()

    with Release(device.current) as release:
        thread = threading.Thread(target=switch)
        thread.start()
        while not done.is_set():
            release.reload_if_changed()
            assert release.name == f"r{seen(release)}"
        thread.join()
        release.reload_if_changed()
        assert release.name == "r11"


def test_a_folder_that_has_gone_is_not_waited_for(device):
    shutil.rmtree(device.current.resolve())
    with pytest.raises(ReleaseError, match="no release") as caught, Release(device.current):
        pass
    assert caught.value.code == "no_release"
