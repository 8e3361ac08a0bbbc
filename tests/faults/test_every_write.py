"""A disk that is full, or read-only, at every write of a run: nothing is lost, and the next run ends well.

The file system is a real one whose limit grows by one file, or by some blocks, from run to run: each
run fails at the first write that the one before could not do, until one has all that it needs.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent import config as configuration
from agent.core.errors import QuantdError, StoreError
from agent.run.artifacts import Observe
from agent.wiring import storage
from agent.wiring.exclusive import exclusive
from tests.support.application import Application
from tests.support.in_process import optimize
from tests.support.parts import missing_part
from tests.support.scene import write_config
from tests.support.switches import copied, current, incomplete, leftovers, pending

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
_BLOCK = 4096
_RUNS_LIMIT = 400


@dataclass(kw_only=True)
class Machine:
    """A device whose storage is a small file system, with a release that a run will replace."""

    state: Path
    config: Path
    application: Application
    reuse: bool = False

    def limit(self, *, files: int | None = None, blocks: int | None = None) -> None:
        """Leave room for so many more files, and so many more blocks; None: plenty."""
        found = os.statvfs(self.state)
        used_files = found.f_files - found.f_ffree
        used_blocks = (found.f_blocks - found.f_bfree) * found.f_frsize // _BLOCK
        many = used_files + (100_000 if files is None else files)
        size = (used_blocks + (25_000 if blocks is None else blocks)) * _BLOCK
        self.mount(f"remount,nr_inodes={many},size={size}")

    def mount(self, options: str) -> None:
        subprocess.run(["mount", "-o", options, str(self.state)], check=True, capture_output=True)

    def run(self) -> str:
        """Optimize as the command line does; return the id of the run."""
        effective, never = configuration.load(self.config), threading.Event()
        with exclusive(effective, "test", cancelled=never, stopping=never):
            return self.optimize(lambda *_: None)

    def run_or_fail(self) -> str:
        """Return the id of the run, "" if the disk was full, after which there is space again."""
        try:
            return self.run()
        except StoreError as error:
            found = error
        finally:
            self.limit()
        assert found.code == "disk_full", found
        assert "free some space" in found.hint
        return ""

    def optimize(self, observe: Observe) -> str:
        """Optimize without the lock, whose file is open to be written."""
        effective = configuration.load(self.config)
        finished = optimize(effective, observe, reuse_calibration=self.reuse)
        assert finished.report.activation.state == "active"
        return finished.report.run_id

    def check(self, expected: str | None) -> None:
        """Compare everything with the release that must be active."""
        assert incomplete(self.state) == ""
        assert current(self.state) == expected
        assert self.application.given() == (expected, expected)
        assert pending(self.config) is None
        assert leftovers(self.state) == []


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    state = tmp_path / "state"
    state.mkdir()
    made = ["mount", "-t", "tmpfs", "tmpfs", str(state)]
    if subprocess.run(made, capture_output=True, check=False).returncode:
        missing_part("a small file system", "mounting a tmpfs needs root")
    try:
        application = Application(tmp_path / "application", state / "current")
        config = write_config(
            tmp_path,
            search={"precisions": ["fp32"]},
            calibration={"frames": 2, "holdout": 2, "window_s": 0.2},
            measure={"warmup_s": 0.0, "duration_s": 0.1, "rounds": 1},
            activation={**application.commands, "keep": 20},
        )
        found = Machine(state=state, config=config, application=application)
        found.run()
        replaced(found)
        yield found
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)


def replaced(machine: Machine) -> str:
    """Make a copy of the active release active, so that the next run has something to switch."""
    active = current(machine.state)
    assert active is not None
    name = copied(machine.config, active)
    storage.releases(configuration.load(machine.config)).switch(name)
    machine.application.give(name)
    return name


def walk(machine: Machine, what: str, stride: int) -> int:
    """Run with ever more room until a run succeeds; return how many failed."""
    before = replaced(machine)
    for failed in range(_RUNS_LIMIT):
        machine.limit(**{what: failed * stride})
        switches = machine.application.size()
        run_id = machine.run_or_fail()
        if run_id:
            machine.check(run_id)
            return failed
        switched = current(machine.state) != before
        if switched:  # the run's report is what there was no room for
            seen = [one.what for one in machine.application.seen(switches)]
            assert seen == ["reload", "reloaded", "health", "healthy"]
            machine.check(current(machine.state))
            before = replaced(machine)
        else:
            machine.check(before)
    raise AssertionError("no run succeeded")


@pytest.mark.parametrize(
    ("what", "stride", "cached"),
    [
        ("files", 1, True),
        ("files", 1, False),
        ("blocks", 3, True),
        ("blocks", 5, False),
    ],
)
@pytest.mark.faults
def test_a_full_disk_at_any_write_loses_nothing(
    machine: Machine, what: str, stride: int, cached: bool
) -> None:
    machine.reuse = cached
    if not cached:
        subprocess.run(["rm", "-rf", str(machine.state / "artifacts")], check=True)
    assert walk(machine, what, stride) > 1, "there was always room"


@pytest.mark.parametrize(
    "stage",
    [
        "activate",
        *(
            pytest.param(stage, marks=pytest.mark.faults)
            for stage in ("capture", "evaluate", "measure", "choose", "report")
        ),
    ],
)
def test_a_disk_that_becomes_read_only_loses_nothing(machine: Machine, stage: str) -> None:
    before = replaced(machine)
    became: list[str] = []

    def observe(seen: str, *_: object) -> None:
        if seen == stage and not became:
            became.append(seen)
            machine.mount("remount,ro")

    with pytest.raises(QuantdError) as caught:
        machine.optimize(observe)
    assert became
    seen = "unable to open database file" if stage == "report" else "ead-only"  # SQLite's words
    assert seen in caught.value.message
    assert caught.value.hint or stage != "report"
    machine.mount("remount,rw")
    assert incomplete(machine.state) == ""
    if stage != "report":  # by then the release was switched and confirmed
        assert current(machine.state) == before
    replaced(machine)
    machine.check(machine.run())
