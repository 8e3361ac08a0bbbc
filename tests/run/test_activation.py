"""Activation with real files and real commands, and a crash after every single step."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.host.commands import run_command
from agent.adapters.storage.releases import FileReleases
from agent.config import ActivationTable
from agent.core.errors import RunnerError
from agent.core.release.recovery import recovery
from agent.run.activation import recover, roll_back, switch

FILES = {"model.json": b"{}", "model.onnx": b"graph"}
GOOD = (sys.executable, "-c", "pass")
BAD = (sys.executable, "-c", "import sys; print('not ready'); sys.exit(4)")


def look(_: str) -> None:
    """Find nothing wrong."""


def fail(_: str) -> None:
    raise RunnerError("it is not even looked at")


@pytest.fixture
def releases(tmp_path: Path) -> FileReleases:
    found = FileReleases(str(tmp_path))
    found.create("r1", FILES)
    done = switch("r1", ActivationTable(), releases=found, run=run_command, check=look)
    assert done.state == "active"
    return found


def activated(
    releases: FileReleases, settings: ActivationTable, check: Callable[[str], None] = look
):
    releases.create("r2", FILES)
    return switch("r2", settings, releases=releases, run=run_command, check=check)


def test_a_healthy_release_becomes_current(releases: FileReleases) -> None:
    done = activated(releases, ActivationTable(reload=GOOD, health=GOOD))
    assert (done.state, done.release, done.previous) == ("active", "r2", "r1")
    assert releases.current() == "r2"


@pytest.mark.parametrize("trouble", ["reload", "health"])
def test_bad_health_rolls_back_with_the_reason(releases: FileReleases, trouble: str) -> None:
    done = activated(releases, ActivationTable(**{trouble: BAD}))
    assert done.state == "rolled_back"
    assert "ended with 4: not ready" in done.detail
    assert releases.current() == "r1"
    assert releases.pending() is None


def test_what_is_current_is_switched_to_without_a_command_or_a_trace(
    releases: FileReleases,
) -> None:
    done = switch("r1", ActivationTable(health=BAD), releases=releases, run=run_command, check=fail)
    assert (done.state, done.release, done.previous) == ("unchanged", "r1", "r1")
    assert (releases.current(), releases.pending()) == ("r1", None)


def test_a_health_command_that_hangs_is_bad_health(releases: FileReleases) -> None:
    hang = (sys.executable, "-c", "import time; time.sleep(60)")
    done = activated(releases, ActivationTable(health=hang, health_timeout_s=0.3))
    assert done.state == "rolled_back"
    assert "did not end in time" in done.detail


def test_an_engine_that_does_not_load_never_becomes_current(releases: FileReleases) -> None:
    def broken(_: str) -> None:
        raise RunnerError("does not load")

    with pytest.raises(RunnerError):
        activated(releases, ActivationTable(), broken)
    assert releases.current() == "r1"
    assert releases.pending() is None


def test_roll_back_takes_the_newest_earlier_release_that_loads(releases: FileReleases) -> None:
    activated(releases, ActivationTable())
    done = roll_back(ActivationTable(), releases=releases, run=run_command, check=look)
    assert done.state == "active"
    assert releases.current() == "r1"


class Crash(Exception):
    """Stands for a power cut."""


class CrashingReleases(FileReleases):
    """Real releases that die before the n-th change on the disk."""

    def __init__(self, root: str, steps: int) -> None:
        super().__init__(root)
        self.steps = steps

    def _count(self) -> None:
        if self.steps == 0:
            raise Crash
        self.steps -= 1

    def create(self, *args):
        self._count()
        super().create(*args)

    def intend(self, *args):
        self._count()
        super().intend(*args)

    def switch(self, *args):
        self._count()
        super().switch(*args)

    def finish(self, *args):
        self._count()
        super().finish(*args)


@pytest.mark.parametrize("steps", range(4))
def test_a_crash_at_any_step_leaves_a_good_release(releases: FileReleases, steps: int) -> None:
    crashing = CrashingReleases(str(releases.root), steps)
    with pytest.raises(Crash):
        activated(crashing, ActivationTable())
    after = FileReleases(str(releases.root))
    recover(ActivationTable(), releases=after, run=run_command)
    assert after.current() == "r1"
    assert after.pending() is None
    assert (after.root / "current" / "model.onnx").read_bytes() == b"graph"


@given(
    st.none() | st.tuples(st.text("ab", max_size=2), st.none() | st.text("ab", max_size=2)),
    st.none() | st.text("ab", max_size=2),
)
def test_recovery_never_keeps_what_was_not_confirmed(
    pending: tuple[str, str | None] | None, current: str | None
) -> None:
    back, target, reason = recovery(pending, current)
    after = target if back else current
    if pending is None:
        assert not back
        assert reason == ""
    else:
        assert after == pending[1] or (not back and current == pending[1])
