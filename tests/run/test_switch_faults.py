"""Any sequence of switches, each cut off or out of space at any change of the disk, and recovered."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agent.adapters.storage.releases import FileReleases
from agent.config import ActivationTable
from agent.core.errors import QuantdError, RunnerError
from agent.core.records import Activation
from agent.core.release.recovery import CommandResult
from agent.run.activation import recover, roll_back, rollback_target, switch
from tests.support.failing_disk import PowerCut, failing
from tests.support.switches import leftovers

_KEEP = 3
_SETTINGS = ActivationTable(reload=("reload",), health=("health",), keep=_KEEP)
_NEVER = 10_000
_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # fsync costs nothing there
_HOW = st.sampled_from(("power", "power", "full", "read-only"))
_AFTER = st.integers(0, 40) | st.just(_NEVER)
_HEALTHY = st.integers(0, 3).map(bool)


class Device:
    """Releases on a disk, an application, and the work as a process does it under the lock."""

    def __init__(self, root: Path) -> None:
        self.releases = FileReleases(str(root))
        self.given: str | None = None
        self.healthy = True
        self.spoiled: set[str] = set()
        self._count = itertools.count(1)
        self._step: Callable[[], None] = lambda: None

    def publish(self) -> str:
        """Create a release; its one file contains its name."""
        name = f"r{next(self._count):03d}"
        self.releases.create(name, {"model.json": b"{}", "engine": name.encode()})
        return name

    def check(self, release: str) -> None:
        if release in self.spoiled:
            raise RunnerError(f"{release} does not load")

    def run(
        self, argv: Sequence[str], _timeout_s: float, environment: Mapping[str, str], _: object
    ) -> CommandResult:
        """Stand for the user's commands; the power may fail before and after their effect."""
        release, status = environment["QUANTD_RELEASE"], 0
        self._step()
        if argv[0] == "reload":
            assert (release or None) == self.releases.current()
            self.given = release or None
        else:
            assert release == self.given, "a release is judged that the application does not have"
            status = 0 if self.healthy else 4
        self._step()
        return CommandResult(argv=tuple(argv), status=status, output="")

    def switch(self, release: str, run_id: str) -> Activation:
        return switch(
            release, _SETTINGS, run_id=run_id, releases=self.releases, run=self.run,
            check=self.check, cancelled=threading.Event(),
        )  # fmt: skip

    def roll_back(self, to: str | None, run_id: str) -> Activation:
        return roll_back(
            _SETTINGS, run_id=run_id, releases=self.releases, run=self.run, check=self.check,
            cancelled=threading.Event(), to=to,
        )  # fmt: skip

    def recover(self) -> None:
        self.releases.remove_abandoned()
        recover(_SETTINGS, releases=self.releases, run=self.run, cancelled=threading.Event())

    def work(self, do: Callable[[], Activation], how: str, after: int) -> Activation | None:
        """Do something between two recoveries, as `wiring.exclusive` does; None if it failed."""
        with failing(how, after) as disk:
            self._step = disk.step if how == "power" else self._step
            try:
                self.recover()
                try:
                    return do()
                finally:
                    with contextlib.suppress(QuantdError, OSError):
                        self.recover()
            except PowerCut:
                self.releases = FileReleases(str(self.releases.root))  # as after a start
                return None
            finally:
                self._step = lambda: None

    def repaired(self) -> None:
        """Recover with the power on, space on the disk and an application that is well."""
        self.healthy = True
        self.recover()


class Switches(RuleBasedStateMachine):
    """Every switch is cut off somewhere, or not, and its recovery once more."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="switches-", dir=_MEMORY))
        self.device = Device(self.root)
        self.pinned: set[str] = set()
        self.refused: set[str] = set()
        self.kept: set[str] = set()
        self.runs = itertools.count(1)

    @initialize()
    def first(self) -> None:
        done = self.device.switch(self.device.publish(), "run-0")
        assert done.state == "active"

    @property
    def releases(self) -> FileReleases:
        return self.device.releases

    def do(
        self, target: str | None, work: Callable[[str], Activation], how: str, cuts: Sequence[int]
    ) -> Activation | None:
        """Do one switch, cut off after so many changes, and its recovery cut off again."""
        before, run_id = self.releases.current(), f"run-{next(self.runs)}"
        self.kept = {one for one in (before,) if one} | self.pinned
        done: Activation | None = None
        trouble: BaseException | None = None
        try:
            done = self.device.work(lambda: work(run_id), how, cuts[0])
        except (QuantdError, OSError) as error:
            trouble = error
        assert not isinstance(trouble, OSError), "an error without a hint"
        for cut in cuts[1:]:
            with failing(how, cut), contextlib.suppress(QuantdError, PowerCut):
                self.device.recover()
        self.device.repaired()
        now, settled = self.releases.current(), self.releases.settled(run_id)
        if done and done.state in {"active", "rolled_back"}:
            assert settled == done
        if settled is None:
            assert now == before, "switched, and no record of it"
        elif settled.state == "active":
            assert now == settled.release
            assert settled.previous == before
            assert target in {None, now}
        else:
            assert now == before == settled.release
            self.refused |= {settled.previous} if settled.previous else set()
        if settled and settled.state == "active":
            self.refused.discard(str(now))
        return settled

    @rule(how=_HOW, cuts=st.lists(_AFTER, min_size=1, max_size=3), healthy=_HEALTHY)
    def optimize(self, how: str, cuts: list[int], healthy: bool) -> None:
        self.device.healthy = healthy
        self.do(None, lambda run_id: self.device.switch(self.device.publish(), run_id), how, cuts)

    @rule(
        how=_HOW,
        cuts=st.lists(_AFTER, min_size=1, max_size=3),
        healthy=_HEALTHY,
        number=st.integers(0, 9),
    )
    def activate(self, how: str, cuts: list[int], healthy: bool, number: int) -> None:
        ids = self.releases.ids()
        target = ids[number % len(ids)]
        self.device.healthy = healthy
        self.do(target, lambda run_id: self.device.switch(target, run_id), how, cuts)

    @rule(how=_HOW, cuts=st.lists(_AFTER, min_size=1, max_size=3), healthy=_HEALTHY)
    def go_back(self, how: str, cuts: list[int], healthy: bool) -> None:
        """Roll back as the daemon does: the target is found once, and kept for a repetition."""
        before, wanted = self.releases.current(), rollback_target(self.releases)
        self.device.healthy = healthy
        spoiled, refused = set(self.device.spoiled), set(self.refused)
        done = self.do(None, lambda run_id: self.device.roll_back(wanted, run_id), how, cuts)
        if done and done.state == "active":
            assert done.release != before
            assert done.release not in spoiled | refused
            assert wanted in {done.release, *spoiled}

    @rule(number=st.integers(0, 9), pinned=st.booleans())
    def pin(self, number: int, pinned: bool) -> None:
        ids = self.releases.ids()
        name = ids[number % len(ids)]
        self.releases.pin(name, pinned=pinned)
        (self.pinned.add if pinned else self.pinned.discard)(name)

    @precondition(lambda self: len(self.releases.ids()) > 1)
    @rule(number=st.integers(0, 9))
    def spoil(self, number: int) -> None:
        """Let a release, not the active one, no longer load."""
        others = [one for one in self.releases.ids() if one != self.releases.current()]
        self.device.spoiled.add(others[number % len(others)])

    @rule()
    def rollback_finds_a_good_one_or_names_none(self) -> None:
        target = rollback_target(self.releases)
        marks = self.releases.marks()
        others = {
            one for one, mark in marks.items() if mark.good and one != self.releases.current()
        }
        assert target == max(others) if others else (target is None or marks[target].good is None)

    @invariant()
    def the_application_runs_one_whole_release(self) -> None:
        current = self.releases.current()
        if current is None:
            return
        assert (self.root / "current" / "engine").read_bytes() == current.encode()
        assert self.device.given == current
        assert self.releases.pending() is None
        assert self.releases.marks()[current].good, "a rollback would never return to it"
        assert self.kept | self.pinned <= set(self.releases.ids())

    @rule()
    def clean_work_leaves_nothing_but_releases(self) -> None:
        self.optimize("power", [_NEVER], healthy=True)
        assert not leftovers(self.root)
        assert len(set(self.releases.ids()) - self.pinned) <= _KEEP

    def teardown(self) -> None:
        shutil.rmtree(self.root)


@pytest.fixture
def memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="switches-", dir=_MEMORY) as folder:
        yield Path(folder)


def test_whatever_is_cut_off_is_undone_or_done() -> None:
    run_state_machine_as_test(Switches, settings=settings(stateful_step_count=20))


@pytest.mark.parametrize("how", ["power", "full", "read-only"])
@pytest.mark.parametrize("healthy", [True, False])
@pytest.mark.parametrize("verb", ["activate", "rollback"])
def test_every_change_of_a_switch(memory: Path, verb: str, healthy: bool, how: str) -> None:
    """Not drawn but counted: the fault comes at the first change, at the second, and so on."""
    for after in itertools.count():
        root = memory / str(after)
        root.mkdir()
        device = Device(root)
        first, second = device.publish(), device.publish()
        device.switch(second, "run-1")
        device.switch(first, "run-2")
        device.healthy = healthy

        def work(device: Device = device, second: str = second) -> Activation:
            return (
                device.switch(second, "r") if verb == "activate" else device.roll_back(second, "r")
            )

        done = None
        with contextlib.suppress(QuantdError):
            done = device.work(work, how, after)
        failed = done is None
        device.repaired()
        assert device.releases.pending() is None
        settled = device.releases.settled("r")
        expected = second if settled and settled.state == "active" else first
        assert device.releases.current() == device.given == expected
        assert device.releases.marks()[expected].good, "a rollback would never return to it"
        if failed and settled is None:
            if verb == "rollback" and rollback_target(device.releases) != second:
                assert not healthy  # it was marked bad before the fault
            else:  # the next try, with space on the disk
                done = device.work(work, how, _NEVER)
                assert done is not None
                assert done.state == "active"
        if not failed:
            # On a full disk the outcome fits into the ledger's space, and a mark is only lost.
            assert after > (2 if how == "full" else 3), "there is more to fail than that"
            return
