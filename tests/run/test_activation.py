"""Activation with real files and real commands, and a crash after every single step."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.adapters.host.commands import run_command
from agent.adapters.storage.releases import FileReleases
from agent.config import ActivationTable
from agent.core.errors import ActivationError, JobError, RunnerError
from agent.core.records import Activation
from agent.core.release.recovery import CommandResult
from agent.run.activation import RunCommand, recover, roll_back, rollback_target, switch

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
    assert activated(found, release="r1").state == "active"
    return found


def activated(
    releases: FileReleases,
    settings: ActivationTable | None = None,
    check: Callable[[str], None] = look,
    release: str = "r2",
    run: RunCommand = run_command,
) -> Activation:
    if release not in releases.ids():
        releases.create(release, FILES)
    return switch(
        release,
        settings or ActivationTable(),
        run_id=f"run-{release}",
        releases=releases,
        run=run,
        check=check,
        cancelled=threading.Event(),
    )


def rolled_back(
    releases: FileReleases,
    settings: ActivationTable | None = None,
    check: Callable[[str], None] = look,
    to: str | None = None,
) -> Activation:
    return roll_back(
        settings or ActivationTable(),
        run_id="run-back",
        releases=releases,
        run=run_command,
        check=check,
        cancelled=threading.Event(),
        to=to,
    )


def recovered(
    releases: FileReleases, settings: ActivationTable | None = None, run: RunCommand = run_command
) -> Activation | None:
    return recover(
        settings or ActivationTable(), releases=releases, run=run, cancelled=threading.Event()
    )


class Application:
    """Loads what `current` points to at each reload, which may be cut by a crash."""

    def __init__(self, releases: FileReleases, *, crash_at: int = -1) -> None:
        self.releases = releases
        self.loaded: list[str | None] = []
        self._crash_at = crash_at

    def __call__(self, argv: object, _limit: object, _more: object, _: object) -> CommandResult:
        if "reload" in argv:
            self.loaded.append(self.releases.current())
            if len(self.loaded) - 1 == self._crash_at:
                raise Crash
            return CommandResult(argv=("reload",), status=0, output="")
        return CommandResult(argv=("health",), status=1, output="sick")


APPLICATION = ActivationTable(reload=("reload",), health=("health",))


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
    done = activated(releases, ActivationTable(health=BAD), fail, "r1")
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


def test_a_rollback_goes_to_a_good_release_and_leaves_a_bad_one(releases: FileReleases) -> None:
    activated(releases)
    activated(releases, release="r3")
    assert rollback_target(releases) == "r2"
    assert rolled_back(releases).state == "active"
    assert releases.current() == "r2"
    assert rolled_back(releases).release == "r1"  # not to r3, which was rolled back from
    assert not any(releases.marks()[bad].good for bad in ("r2", "r3"))
    with pytest.raises(ActivationError, match="no good release to roll back to"):
        rolled_back(releases)


def test_a_rollback_from_an_older_release_goes_to_the_newest_good_one(
    releases: FileReleases,
) -> None:
    activated(releases)
    activated(releases, release="r1")
    assert rolled_back(releases).release == "r2"


def test_a_refused_release_is_not_next_in_line(releases: FileReleases) -> None:
    activated(releases)
    activated(releases, ActivationTable(health=BAD), release="r3")
    assert "not ready" in releases.marks()["r3"].reason
    assert rolled_back(releases).release == "r1"
    done = activated(releases, release="r3")  # a person asked for it
    assert (done.state, releases.marks()["r3"].good) == ("active", True)


def test_a_rollback_that_is_refused_stays_and_is_not_tried_again(releases: FileReleases) -> None:
    activated(releases)
    done = rolled_back(releases, ActivationTable(health=BAD))
    assert (done.state, done.release, done.previous) == ("rolled_back", "r2", "r1")
    assert releases.marks()["r2"].good
    assert rollback_target(releases) is None


def test_what_no_longer_loads_is_bad_and_the_next_one_is_taken(releases: FileReleases) -> None:
    activated(releases)
    activated(releases, release="r3")

    def check(release: str) -> None:
        if release == "r2":
            raise RunnerError("cut short", code="bad_release")

    assert rolled_back(releases, check=check, to="r2").release == "r1"
    assert releases.marks()["r2"].reason == "cut short"


@pytest.mark.parametrize("code", ["died", "canceled"])
def test_a_release_that_kills_its_check_is_passed_over_and_a_cancel_is_not(
    releases: FileReleases, code: str
) -> None:
    activated(releases)
    activated(releases, release="r3")

    def check(release: str) -> None:
        if release == "r2":
            raise JobError("killed by SIGSEGV", code=code)

    if code == "canceled":
        with pytest.raises(JobError):
            rolled_back(releases, check=check)
        assert releases.current() == "r3"
    else:
        assert rolled_back(releases, check=check).release == "r1"


def test_a_machine_without_a_runtime_makes_no_release_bad(releases: FileReleases) -> None:
    def check(_: str) -> None:
        raise RunnerError("no driver", code="no_runtime")

    with pytest.raises(RunnerError):
        activated(releases, check=check)
    assert releases.marks()["r2"].good is None


def test_a_rollback_goes_where_it_was_asked_to_whatever_is_newest_now(
    releases: FileReleases,
) -> None:
    activated(releases)
    activated(releases, release="r3")
    assert rolled_back(releases, to="r1").release == "r1"


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
        activated(crashing)
    after = FileReleases(str(releases.root))
    recovered(after)
    assert after.current() == "r1"
    assert after.pending() is None
    assert (after.root / "current" / "model.onnx").read_bytes() == b"graph"


@pytest.mark.parametrize("crash_at", [0, 1])
def test_after_a_crash_in_a_reload_the_application_is_on_the_current_release(
    releases: FileReleases, crash_at: int
) -> None:
    """At 0 it may be on the new release, at 1 it may still be on the one that health refused."""
    application = Application(releases, crash_at=crash_at)
    with pytest.raises(Crash):
        activated(releases, APPLICATION, run=application)
    after = Application(releases)
    done = recovered(releases, APPLICATION, after)
    assert after.loaded == ["r1"] == [releases.current()]
    assert done is not None
    assert done.state == ("interrupted", "rolled_back")[crash_at]
    assert recovered(releases, APPLICATION, after) is None


def test_a_switch_without_an_earlier_release_is_undone_and_reloaded(tmp_path: Path) -> None:
    releases = FileReleases(str(tmp_path))
    with pytest.raises(Crash):
        activated(releases, APPLICATION, release="r1", run=Application(releases, crash_at=0))
    after = Application(releases)
    recovered(releases, APPLICATION, after)
    assert after.loaded == [None]


def test_recovery_goes_to_a_good_release_if_the_earlier_one_is_gone(
    releases: FileReleases,
) -> None:
    activated(releases)
    with pytest.raises(Crash):
        activated(releases, APPLICATION, release="r3", run=Application(releases, crash_at=0))
    shutil.rmtree(releases.path("r2"))
    done = recovered(releases)
    assert done is not None
    assert done.release == releases.current() == "r1"


def test_a_finished_switch_answers_for_its_run(releases: FileReleases) -> None:
    done = activated(releases)
    activated(releases, release="r1")  # another run's switch meanwhile
    assert releases.settled("run-r2") == done
    assert releases.settled("") is None
    refused = activated(releases, ActivationTable(health=BAD), release="r3")
    assert releases.settled("run-r3") == refused


def test_an_interrupted_switch_may_be_done_again(releases: FileReleases) -> None:
    with pytest.raises(Crash):
        activated(releases, APPLICATION, run=Application(releases, crash_at=0))
    recovered(releases)
    assert releases.settled("run-r2") is None


def test_a_cancelled_recovery_is_back_at_once_and_completed_later(releases: FileReleases) -> None:
    with pytest.raises(Crash):
        activated(releases, APPLICATION, run=Application(releases, crash_at=0))
    stopping = threading.Event()
    stopping.set()
    settings = ActivationTable(reload=GOOD)
    with pytest.raises(JobError, match="canceled"):
        recover(settings, releases=releases, run=run_command, cancelled=stopping)
    assert releases.current() == "r1"
    assert releases.pending() is not None
    assert recovered(releases, settings) is not None
