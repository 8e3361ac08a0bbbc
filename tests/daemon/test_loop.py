"""The loop and its journal: what could not be written is written later, in order, once."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator

import pytest

from agent.adapters.storage.journal import SqliteJournal
from agent.core.control.command import Command, CommandId, Stage
from agent.core.control.effects import Effect, PublishTelemetry
from agent.core.control.events import Due, Ended
from agent.core.control.requests import Ping
from agent.core.errors import StoreError
from agent.daemon.inspector import Inspector
from agent.daemon.loop import Daemon
from tests.fakes.runners import FakeClock


class Full(SqliteJournal):
    code = ""

    @contextlib.contextmanager
    def atomic(self) -> Iterator[None]:
        if self.code:
            raise StoreError("state.db: no room", code=self.code)
        with super().atomic():
            yield


class Outward:
    def __init__(self) -> None:
        self.said: list[Effect] = []

    def publish(self, effect: Effect, state: object) -> None:
        self.said.append(effect)

    def pump(self) -> None: ...


class Still:
    """The worker and the service manager of a test that needs neither."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def begin(self, work: object) -> None:
        self.begun.append(work.run_id)

    def alive(self, status: str) -> None: ...


@pytest.fixture
def daemon(tmp_path) -> Daemon:
    mailbox = queue.SimpleQueue()
    still = Still()
    return Daemon(
        mailbox=mailbox,
        journal=Full(str(tmp_path / "state.db")),
        outward=Outward(),
        worker=still,
        inspector=Inspector(lambda _: None, mailbox.put),
        notifier=still,
        clock=FakeClock(),
        due=lambda: False,
        recover=lambda: "",
        new_id=lambda: "r",
    )


def turn(daemon: Daemon, event: object) -> None:
    daemon.mailbox.put(event)
    daemon._turn()


def test_what_a_full_disk_kept_back_is_published_when_there_is_room(daemon):
    daemon.journal.code = "disk_full"
    turn(daemon, Due("r1"))
    turn(daemon, Ended("r1", Stage.FAILED, "disk_full", "no room"))
    assert daemon.worker.begun == ["r1"]
    assert daemon.outward.said == []
    daemon.journal.code = ""
    turn(daemon, Due("r2"))
    said = [e for e in daemon.outward.said if not isinstance(e, PublishTelemetry)]
    kinds = [getattr(e, "kind", type(e).__name__) for e in said]
    assert kinds.index("optimize_started") < kinds.index("optimize_ended")
    assert kinds.count("optimize_ended") == 1
    assert [run.run_id for run in daemon.journal.unfinished_runs()] == ["r2"]
    count = len(daemon.outward.said)
    turn(daemon, Ended("unknown", Stage.SUCCEEDED))
    assert len(daemon.outward.said) == count


def test_a_full_disk_is_reported_once_and_so_is_its_end(daemon, caplog):
    """What fills the disk further is the log of it."""
    caplog.set_level("INFO")
    daemon.journal.code = "disk_full"
    for number in range(20):
        turn(daemon, Due(f"r{number}"))
    assert caplog.text.count("journal_failed code=disk_full") == 1
    daemon.journal.code = ""
    turn(daemon, Ended("unknown", Stage.SUCCEEDED))
    turn(daemon, Ended("unknown", Stage.SUCCEEDED))
    assert caplog.text.count("journal_works_again") == 1


def test_what_a_damaged_journal_refuses_is_not_kept_for_ever(daemon):
    daemon.journal.code = "damaged"
    turn(daemon, Due("r1"))
    daemon.journal.code = ""
    turn(daemon, Ended("unknown", Stage.SUCCEEDED))
    assert not [e for e in daemon.outward.said if getattr(e, "kind", "") == "optimize_started"]
    assert daemon.worker.begun == ["r1"]


def test_more_events_than_can_be_handled_delay_neither_watchdog_nor_times(daemon):
    """One message more for each that is handled: whoever floods a topic is that fast."""
    handled = []

    def handle(event: Ended) -> bool:
        handled.append(event)
        daemon.clock.now_ns += 10_000_000
        if len(handled) < 10_000:
            daemon.mailbox.put(event)
        return False

    daemon._handle = handle
    turn(daemon, Ended("unknown", Stage.SUCCEEDED))
    assert 50 < len(handled) < 200
    assert not daemon.mailbox.empty()


def test_a_look_that_fails_is_reported_in_the_log_only(caplog):
    posted = []

    def fails(_):
        raise StoreError("no room", code="disk_full")

    inspector = Inspector(fails, posted.append)
    inspector.begin()
    inspector.stop(5)
    assert posted == []
    assert "inspection_failed code=disk_full" in caplog.text


def test_what_a_later_version_stored_is_answered_and_not_begun(daemon):
    """After a downgrade: neither the daemon ends by it, nor is it taken for something else."""
    spec = '{"kind": "frobnicate", "args": {}}'
    with daemon.journal.atomic():
        daemon.journal.receive(Command(id=CommandId("c1"), request=Ping(), digest="aa"))
        daemon.journal.receive(Command(id=CommandId("c2"), request=Ping(), digest="bb"))
        daemon.journal.begin_run("r1", "t", "c2", spec)
    daemon.journal._db._db.execute("UPDATE inbox SET type = 'defrost' WHERE id = 'c1'")
    daemon._resume()
    told = {e.command_id: (e.stage, e.code, e.detail) for e in daemon.outward.said}
    assert told == {
        "c1": (Stage.FAILED, "unsupported", "defrost is not known"),
        "c2": (Stage.FAILED, "unsupported", "frobnicate is not known"),
    }
    assert daemon.worker.begun == []
    assert not daemon.journal.unfinished_runs()
