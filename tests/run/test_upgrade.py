"""The look at the active release at the daemon's start, over real release folders."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from agent.adapters.storage.releases import FileReleases
from agent.core.errors import BuildError, JobError, RunnerError
from agent.core.records import Platform
from agent.core.release.upgrade import ATTEMPTS, conditions
from agent.run.upgrade import Ports, inspect

NOW = Platform(
    runtime="tensorrt", runtime_version="10.7", scheme="S8S8-FP16", fp16_reason="", device="Orin",
    environment={"board": "Nano", "compute_capability": "8.7", "driver": "1", "l4t": "36.5"},
)  # fmt: skip
THEN = {**conditions(NOW), "version": "10.3", "l4t": "36.4"}


class Device:
    """Releases on the disk, and what the machine answers."""

    def __init__(self, folder, *made_for):
        self.releases = FileReleases(str(folder))
        self.counts = Counter()
        self.asked = []
        self.bad = {}
        self.frames = {"frames"}
        self.answer = NOW
        for number, made in enumerate(made_for, start=1):
            facts = {"runtime": made, "lineage": {"calibration": "frames"}}
            body = json.dumps(facts).encode() if made is not None else b"{torn"
            self.releases.create(f"r{number}", {"model.json": body})
            self.releases.switch(f"r{number}")

    def platform(self, kind):
        self.asked.append(kind)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def check(self, release):
        if release in self.bad:
            raise self.bad[release]

    def count(self, key):
        self.counts[key] += 1
        return self.counts[key]

    def look(self):
        return inspect(
            Ports(
                releases=self.releases,
                platform=self.platform,
                check=self.check,
                stored=lambda digest: digest in self.frames,
                count=self.count,
            )
        )


def test_without_a_release_and_with_one_that_fits_there_is_nothing_to_do(tmp_path):
    assert Device(tmp_path / "none").look() is None
    fits = Device(tmp_path / "fits", conditions(NOW))
    assert fits.look() is None
    assert fits.asked == ["tensorrt"]  # the runtime it was made for, not the best one here
    assert not fits.counts


def test_an_upgrade_is_rebuilt_from_the_frames_of_the_release(tmp_path):
    found = Device(tmp_path, THEN).look()
    assert (found.plan, found.reuse, found.roll_back, found.trouble) == ("rebuild", True, False, "")
    assert found.changes == ("runtime version 10.3, now 10.7", "L4T 36.4, now 36.5")


def test_missing_frames_are_captured_again_with_the_reason(tmp_path):
    device = Device(tmp_path, THEN)
    device.frames.clear()
    found = device.look()
    assert (found.plan, found.reuse) == ("rebuild", False)
    assert "no longer stored" in found.frames


def test_frames_of_another_device_are_not_used(tmp_path):
    found = Device(tmp_path, {**conditions(NOW), "board": "AGX"}).look()
    assert (found.plan, found.reuse) == ("rebuild", False)
    assert "another device (board AGX, now Nano)" in found.frames


def test_an_upgrade_that_fails_is_not_tried_at_every_start(tmp_path):
    device = Device(tmp_path, THEN)
    plans = [device.look().plan for _ in range(8)]
    assert plans == ["rebuild"] * ATTEMPTS + ["give_up"] * (8 - ATTEMPTS)
    device.answer = Platform(**{**_fields(NOW), "runtime_version": "10.9"})
    assert device.look().plan == "rebuild"  # the next upgrade is another matter


def test_going_back_to_a_release_of_before_is_respected(tmp_path):
    device = Device(tmp_path, THEN, conditions(NOW))
    device.releases.switch("r1")
    found = device.look()
    assert (found.plan, found.attempt) == ("keep", 0)
    assert not device.counts


def test_a_release_that_no_longer_loads_is_left_for_an_earlier_one_and_built_again(tmp_path):
    device = Device(tmp_path, THEN, THEN)
    device.bad["r2"] = RunnerError("doesn't load this engine")
    found = device.look()
    assert (found.roll_back, found.plan, found.reuse) == (True, "rebuild", True)
    assert found.trouble == "doesn't load this engine"


def test_without_an_earlier_release_there_is_no_going_back(tmp_path):
    device = Device(tmp_path, THEN)
    device.bad["r1"] = RunnerError("doesn't load")
    assert device.look().roll_back is False


def test_there_is_no_going_back_to_a_release_that_was_refused(tmp_path):
    device = Device(tmp_path, THEN, THEN)
    device.bad["r2"] = RunnerError("doesn't load")
    device.releases.mark("r1", good=False, reason="sick")
    assert device.look().roll_back is False


def test_a_damaged_release_is_repaired_even_beside_one_that_fits(tmp_path):
    device = Device(tmp_path, conditions(NOW), conditions(NOW))
    device.bad["r2"] = RunnerError("not the file that was measured")
    found = device.look()
    assert (found.changes, found.plan, found.roll_back) == ((), "rebuild", True)
    assert list(device.counts) == ["repair_r2"]


def test_a_damaged_description_is_a_damaged_release(tmp_path):
    device = Device(tmp_path, None)
    device.bad["r1"] = RunnerError("release r1: Expecting property name")
    found = device.look()
    assert (found.plan, found.reuse) == ("rebuild", False)
    assert device.asked == [""]


def test_a_runtime_that_is_away_changes_nothing(tmp_path):
    """It may come back (a driver that isn't ready yet), and another one would be a choice."""
    device = Device(tmp_path, THEN, THEN)
    device.answer = BuildError("TensorRT is not usable", code="no_runtime")
    found = device.look()
    assert (found.plan, found.roll_back, found.trouble) == (
        "give_up",
        False,
        "TensorRT is not usable",
    )
    assert not device.counts


@pytest.mark.parametrize("code", ["timed_out", "canceled", "died"])
def test_what_could_not_be_found_out_changes_nothing(tmp_path, code):
    device = Device(tmp_path, THEN)
    device.bad["r1"] = JobError("check: no answer", code=code)
    with pytest.raises(JobError):
        device.look()
    assert not device.counts


def _fields(platform):
    return {name: getattr(platform, name) for name in platform.__slots__}
