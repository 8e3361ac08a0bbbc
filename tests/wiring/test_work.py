"""What the worker does, and what it answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from agent import config as configuration
from agent.adapters.storage.journal import SqliteJournal
from agent.config import Config
from agent.core.control.command import Stage
from agent.core.control.events import Ended, Work
from agent.core.control.requests import Activate, Expect, Optimize, RollBack, Task
from agent.core.errors import ActivationError, CommandError, JobError, StoreError
from agent.core.records import Activation
from agent.wire.commands import decode_task, encode_task
from agent.wiring import released, storage, work

RELEASES = ("r1", "r2", "r3", "r4")


class Scene:
    """A device with four good releases that all load, the newest active."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.journal = SqliteJournal(":memory:")
        self.releases = storage.releases(config)
        self.stopping = threading.Event()
        self.cancelled = threading.Event()
        for release in RELEASES:
            self.releases.create(release, {"model.json": b"{}"})
        self.releases.switch("r4")

    def perform(self, task: Task, run_id: str = "run") -> work.Result:
        if isinstance(task, Task):
            self.journal.begin_run(run_id, "t", None, encode_task(task))
        asked = Work(task=task, run_id=run_id, trigger="t")
        return work.perform(
            self.config,
            self.journal,
            self.stopping,
            asked,
            lambda *_: None,
            self.cancelled,
            origin={},
            warn=lambda _: None,
        )

    def stored(self, run_id: str = "run") -> Task:
        (run,) = [one for one in self.journal.unfinished_runs() if one.run_id == run_id]
        return decode_task(run.spec)

    def switch(self, run_id: str, release: str) -> Activation:
        return released.activate_release(
            self.config, release, run_id=run_id, cancelled=threading.Event()
        )


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr("agent.run.activation.release_check", lambda *_: lambda _: None)
    found = Scene(configuration.from_dump({"storage": {"dir": str(tmp_path)}}))
    yield found
    found.journal.close()


def test_each_kind_of_work_is_done_by_its_own_hand(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def did(what: str | None) -> Activation:
        return Activation(state="active", release=what, previous=None)

    monkeypatch.setattr(released, "roll_back", lambda _, to, **__: did(to))
    monkeypatch.setattr(released, "activate_release", lambda _, one, **__: did(one))
    monkeypatch.setattr(work, "_optimize", lambda *_: ("optimized",))
    results: list[tuple[Task, object]] = [
        (Optimize(), ("optimized",)),
        (Activate(release="r7"), (Stage.SUCCEEDED, "", "active r7", "")),
        (RollBack(), (Stage.SUCCEEDED, "", "active r3", "")),
    ]
    assert {type(task) for task, _ in results} == set(get_args(Task))
    for number, (task, result) in enumerate(results):
        assert scene.perform(task, f"run{number}") == result


def test_unknown_work_is_an_error_and_no_rollback(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released, "roll_back", lambda *_, **__: pytest.fail("rolled back"))
    unknown: Any = SimpleNamespace(kind="frobnicate", expect=None)
    with pytest.raises(AssertionError, match="frobnicate"):
        scene.perform(unknown)


def test_what_a_command_expects_is_judged_again_when_it_begins(scene: Scene) -> None:
    """Another run, or another process, can have changed the release while it waited."""
    with pytest.raises(CommandError, match="r4 is active, the command expects r1") as caught:
        scene.perform(RollBack(expect=Expect(release="r1")))
    assert caught.value.code == "stale_precondition"
    assert scene.releases.current() == "r4"
    assert scene.perform(RollBack(expect=Expect(release="r4")))[0] is Stage.SUCCEEDED
    # taken up again after its end was not recorded: its own switch changed the release
    assert scene.perform(RollBack(expect=Expect(release="r4")))[0] is Stage.SUCCEEDED
    assert scene.releases.current() == "r3"


def test_a_rollback_s_target_is_stored_before_anything_is_done(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def roll_back(*_: object, to: str, **__: object) -> Activation:
        seen.append((to, scene.stored()))
        raise JobError("killed", code="canceled")

    monkeypatch.setattr(released, "roll_back", roll_back)
    with pytest.raises(JobError):
        scene.perform(RollBack(reason="slow"))
    assert seen == [("r3", RollBack(reason="slow", to="r3"))]


def test_a_rollback_taken_up_again_goes_where_it_was_to_go(scene: Scene) -> None:
    scene.switch("by hand", "r2")
    assert scene.perform(RollBack(to="r3"))[2] == "active r3"
    assert scene.releases.current() == "r3"


def test_a_rollback_that_is_not_on_record_is_not_begun(scene: Scene) -> None:
    scene.journal.close()
    scene.journal = SqliteJournal(":memory:")

    def full(*_: object) -> None:
        raise StoreError("no room", code="disk_full")

    scene.journal.specify_run = full  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        scene.perform(RollBack())
    assert scene.releases.current() == "r4"


def test_a_finished_switch_is_answered_and_not_done_again(scene: Scene) -> None:
    first = scene.perform(RollBack())
    assert scene.releases.current() == "r3"
    assert scene.perform(RollBack()) == first
    assert scene.releases.current() == "r3"
    assert work.settled(scene.config, "run") == Ended("run", *first)
    assert work.settled(scene.config, "another") is None


def test_what_fails_after_the_switch_does_not_hide_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def optimize(*_: object, run_id: str, **__: object) -> None:
        scene.switch(run_id, "r2")
        raise JobError("canceled by a command", code="canceled")

    monkeypatch.setattr("agent.wiring.runs.optimize", optimize)
    assert scene.perform(Optimize()) == (
        Stage.SUCCEEDED, "canceled", "active r2; canceled by a command", ""
    )  # fmt: skip


def reports_later(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make a run switch, and fail twice to write its report; return a list of its attempts."""
    attempts: list[int] = []

    def optimize(*_: object) -> work.Result:
        attempts.append(len(attempts))
        scene.switch("run", "r2")
        if len(attempts) < 3:
            raise StoreError("report.json: the disk is full", code="disk_full")
        return Stage.SUCCEEDED, "", "why", "runs/run"

    monkeypatch.setattr(work, "_optimize", optimize)
    monkeypatch.setattr(work, "_RETRY_S", 0.001)
    return attempts


def test_a_report_that_a_full_disk_does_not_take_is_written_when_there_is_space(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = reports_later(scene, monkeypatch)
    room = iter([False, True, False, False, True])
    monkeypatch.setattr(work, "has_room", lambda *_: next(room))
    assert scene.perform(Optimize()) == (Stage.SUCCEEDED, "", "why", "runs/run")
    assert attempts == [0, 1, 2]
    assert list(room) == []  # no attempt while there was none


@pytest.mark.parametrize("stops", [True, False])
def test_a_run_that_waits_to_write_its_report_can_be_ended(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, *, stops: bool
) -> None:
    reports_later(scene, monkeypatch)

    def none(*_: object) -> bool:
        if stops:
            scene.stopping.set()
        scene.cancelled.set()
        return False

    monkeypatch.setattr(work, "has_room", none)
    if stops:  # and continued by the next start
        with pytest.raises(JobError) as caught:
            scene.perform(Optimize())
        assert caught.value.code == "canceled"
    else:
        assert scene.perform(Optimize())[:3] == (
            Stage.SUCCEEDED, "disk_full", "active r2; report.json: the disk is full"
        )  # fmt: skip


def test_a_run_that_a_stop_cut_after_its_switch_is_continued(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its report is still to be written."""

    def optimize(*_: object, run_id: str, **__: object) -> None:
        scene.switch(run_id, "r2")
        scene.stopping.set()
        raise JobError("canceled", code="canceled")

    monkeypatch.setattr("agent.wiring.runs.optimize", optimize)
    with pytest.raises(JobError):
        scene.perform(Optimize())


def test_what_fails_before_the_switch_has_failed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def optimize(*_: object, **__: object) -> None:
        raise StoreError("capture: the disk is full", code="disk_full")

    monkeypatch.setattr("agent.wiring.runs.optimize", optimize)
    with pytest.raises(StoreError):
        scene.perform(Optimize())


def test_a_release_that_is_not_there_is_not_activated(scene: Scene) -> None:
    with pytest.raises(ActivationError):
        scene.perform(Activate(release="r9"))
    assert scene.releases.current() == "r4"
