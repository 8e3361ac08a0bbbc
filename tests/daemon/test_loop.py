"""The loop and its journal: what could not be written is written later, in order, once."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator, Sequence

import pytest

from agent.adapters.storage.journal import SqliteJournal
from agent.core.control.command import Command, CommandId, Stage
from agent.core.control.effects import (
    Answer,
    Effect,
    PublishReport,
    PublishState,
    PublishTelemetry,
)
from agent.core.control.events import Asked, Due, Ended, Online, Stop
from agent.core.control.journal import Answered
from agent.core.control.link import Acked, CommandArrived
from agent.core.control.requests import CancelWork, Ping, Request, RollBack
from agent.core.control.step import State
from agent.core.errors import StoreError
from agent.daemon.inspector import Inspector
from agent.daemon.loop import Daemon
from agent.daemon.mailbox import Mailbox
from agent.wire.commands import encode_task
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


class Link(Outward):
    """Records the order of what the loop hands over."""

    def __init__(self) -> None:
        super().__init__()
        self.code = ""
        self.order: list[object] = []

    def take(self, event: object) -> None:
        self.order.append(event)

    def admit(self, arrived: Sequence[CommandArrived]) -> Sequence[Command]:
        if self.code:
            raise StoreError("state.db: no room", code=self.code)
        self.order += arrived
        return [
            Command(id=CommandId(one.topic), request=Ping(), digest="aa")
            for one in arrived
            if one.topic.startswith("good")
        ]

    def pump(self) -> None:
        self.order.append("pump")


class Impatient(Mailbox):
    """An empty mailbox in which no time passes."""

    def get(self, timeout_s: float, *, commands: bool = True) -> object:
        return super().get(0.0, commands=commands)


class Still:
    """The worker and the service manager of a test that needs neither."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.status = ""

    def begin(self, work: object) -> None:
        self.begun.append(work.run_id)

    def alive(self, status: str) -> None:
        self.status = status

    def cancel(self) -> None: ...


@pytest.fixture
def daemon(tmp_path) -> Daemon:
    mailbox = Mailbox()
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
        active=lambda: None,
        settled=lambda _: None,
    )


def turn(daemon: Daemon, event: object) -> None:
    daemon.mailbox.put(event)
    daemon._turn()


@pytest.mark.parametrize("code", ["disk_full", "busy", "read_only", "store"])
def test_what_a_journal_kept_back_is_published_when_it_can_be_written(daemon, code):
    turn(daemon, Due("r1"))
    daemon.outward.said.clear()
    daemon.journal.code = code
    for _ in range(3):
        turn(daemon, Online())
    turn(daemon, Ended("r1", Stage.FAILED, "disk_full", "no room"))
    assert daemon.outward.said == []
    daemon.journal.code = ""
    turn(daemon, Due("r2"))
    said = [e for e in daemon.outward.said if not isinstance(e, PublishTelemetry)]
    kinds = [getattr(e, "kind", type(e).__name__) for e in said]
    assert kinds == [
        "Close", "PublishReport", "optimize_ended", "PublishState", "Begin",
        "optimize_started", "PublishState", "journal_works_again",
    ]  # fmt: skip
    assert [e.with_meta for e in said if isinstance(e, PublishState)] == [True, False]
    assert [run.run_id for run in daemon.journal.unfinished_runs()] == ["r2"]
    count = len(daemon.outward.said)
    turn(daemon, Ended("unknown", Stage.SUCCEEDED))
    assert len(daemon.outward.said) == count


def test_no_run_begins_that_a_restart_would_not_know_of(daemon):
    """It would be done a second time, from the command that it answers."""
    daemon.journal.code = "disk_full"
    turn(daemon, Due("r1"))
    turn(daemon, Due("r2"))
    assert daemon.worker.begun == []
    daemon.journal.code = ""
    turn(daemon, Online())
    assert daemon.worker.begun == ["r1"]
    assert [run.run_id for run in daemon.journal.unfinished_runs()] == ["r1"]


def test_a_run_that_could_not_begin_can_be_stopped(daemon):
    daemon.journal.code = "disk_full"
    turn(daemon, Due("r1"))
    daemon.mailbox.put(Stop())
    assert any(daemon._turn() for _ in range(2))
    assert daemon.worker.begun == []


def test_the_status_line_says_while_the_journal_can_not_be_written(daemon):
    turn(daemon, Online())
    assert daemon.worker.status == "idle, online"
    daemon.journal.code = "disk_full"
    turn(daemon, Due("r1"))
    assert "the journal can't be written (disk_full)" in daemon.worker.status
    daemon.journal.code = ""
    turn(daemon, Online())
    assert daemon.worker.status == "optimize: starting, online"


def test_a_start_without_space_waits_says_so_once_and_continues(daemon, caplog):
    daemon.mailbox = Impatient()
    left = [StoreError("releases: the disk is full", code="disk_full", hint="free some")] * 9

    def act() -> None:
        if left:
            raise left.pop()

    assert daemon._start(act)
    assert caplog.text.count("start_waits code=disk_full") == 1
    assert "free some" in caplog.text
    assert daemon.worker.status == "waiting: releases: the disk is full"


def test_a_start_that_waits_can_be_stopped(daemon):
    def act() -> None:
        daemon.mailbox.put(Stop())
        raise StoreError("no room", code="disk_full")

    assert not daemon._start(act)


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


def test_a_damaged_journal_ends_the_daemon_and_the_next_start_creates_a_new_one(daemon):
    """Nothing else mends it, and until then no command would be heard."""
    daemon.journal.code = "damaged"
    daemon.mailbox.put(Due("r1"))
    assert daemon._turn()
    assert daemon._damaged


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
    assert daemon.mailbox.get(0.0)


def test_a_burst_of_commands_stops_neither_acknowledgements_nor_sending(daemon):
    daemon.outward = link = Link()
    commands = [CommandArrived(f"bad{n}", b"", False, n) for n in range(1, 500)]
    for event in (*commands, Acked(1, True, 0)):
        daemon.mailbox.put(event)
    daemon._turn()
    assert link.order[:2] == [Acked(1, True, 0), "pump"]
    assert [event for event in link.order if isinstance(event, CommandArrived)] == commands
    between = "".join("p" if event == "pump" else "c" for event in link.order[2:])
    assert all(len(run) <= 50 for run in between.split("p"))


def test_commands_of_one_batch_are_answered_in_order(daemon):
    daemon.outward = link = Link()
    for n in range(1, 80):
        daemon.mailbox.put(CommandArrived(f"good{n}", b"", False, n))
    daemon._turn()
    answers = [(e.command_id, e.stage) for e in link.said if isinstance(e, Answer)]
    assert answers == [
        (f"good{n}", stage) for n in range(1, 80) for stage in (Stage.ACCEPTED, Stage.SUCCEEDED)
    ]


def test_only_work_gets_an_id(daemon):
    daemon.outward = Link()
    made: list[str] = []
    daemon.new_id = lambda: made.append("r") or "r"
    for number in range(10):
        daemon.mailbox.put(CommandArrived(f"good{number}", b"", False, 0))
    daemon._turn()
    assert not made  # each takes a look into the folders of all runs
    task = Command(id=CommandId("c"), request=RollBack())
    assert [event.run_id for event in daemon._asked([task])] == ["r"]


def test_commands_that_a_full_disk_refused_are_taken_up_when_there_is_room(daemon):
    """No new connection is needed: the broker repeats nothing on this one."""
    daemon.outward = link = Link()
    link.code = "disk_full"
    first = [CommandArrived(f"good{n}", b"", False, n) for n in range(1, 4)]
    for event in first:
        daemon.mailbox.put(event)
    daemon._turn()
    turn(daemon, Acked(9, True, 0))
    assert [event for event in link.order if event != "pump"] == [Acked(9, True, 0)]
    link.code = ""
    daemon.clock.now_ns += 1_100_000_000
    turn(daemon, later := CommandArrived("good9", b"", False, 9))
    assert [e for e in link.order if isinstance(e, CommandArrived)] == [*first, later]


def test_commands_that_can_not_be_stored_do_not_keep_the_daemon_busy(daemon):
    waited_s: list[float] = []

    class Waiting(Mailbox):
        def get(self, timeout_s: float, *, commands: bool = True) -> object:
            try:
                return super().get(0.0, commands=commands)
            except queue.Empty:
                waited_s.append(timeout_s)
                raise

    daemon.mailbox = Waiting()
    daemon.outward = link = Link()
    link.code = "disk_full"
    daemon.mailbox.put(CommandArrived("good", b"", False, 1))
    for _ in range(10):
        daemon._turn()
    assert waited_s[1:] == [2.0] * 9
    link.code = ""
    daemon._turn()
    assert Answer("good", Stage.ACCEPTED) in link.said


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
        for name in ("c1", "c2", "c3"):
            daemon.journal.receive(Command(id=CommandId(name), request=Ping(), digest="aa"))
        for stage in (Stage.ACCEPTED, Stage.QUEUED):
            daemon.journal.advance("c3", Answered(stage=stage))
        daemon.journal.begin_run("r1", "t", "c2", spec)
    daemon.journal._db._db.execute("UPDATE inbox SET type = 'defrost' WHERE id != 'c2'")
    daemon._resume()
    turn(daemon, Online())
    told = {e.command_id: (e.stage, e.code, e.detail) for e in answers(daemon)}
    assert told == {
        "c1": (Stage.REJECTED, "unsupported", "defrost is not known"),
        "c2": (Stage.FAILED, "unsupported", "frobnicate is not known"),
        "c3": (Stage.FAILED, "unsupported", "defrost is not known"),
    }
    assert daemon.worker.begun == []
    assert not daemon.journal.unfinished_runs()


def answers(daemon: Daemon) -> list[Answer]:
    return [effect for effect in daemon.outward.said if isinstance(effect, Answer)]


def interrupted(daemon: Daemon, attempts: int) -> None:
    for _ in range(attempts):
        spec = encode_task(RollBack(to="r0"))
        daemon.journal.begin_run("r1", "command:c1", "c1", spec)


def test_a_run_that_ends_the_daemon_each_time_is_given_up(daemon):
    interrupted(daemon, 2)
    daemon._resume()
    turn(daemon, Online())
    assert daemon.worker.begun == ["r1"]
    daemon.state = State()
    daemon._resume()
    turn(daemon, Online())
    assert daemon.worker.begun == ["r1"]
    (answer,) = [one for one in answers(daemon) if one.stage.final]
    assert (answer.stage, answer.code) == (Stage.FAILED, "interrupted")
    assert not daemon.journal.unfinished_runs()


def test_a_finished_switch_is_finished_however_often_the_daemon_ended(daemon):
    interrupted(daemon, 3)
    end = Ended("r1", Stage.SUCCEEDED, detail="active r0", result="runs/r1")
    daemon.settled = {"r1": end}.get
    daemon._resume()
    turn(daemon, Online())
    assert daemon.worker.begun == []
    assert answers(daemon) == [Answer("c1", Stage.SUCCEEDED, "", "active r0", result="runs/r1")]
    assert PublishReport("r1") in daemon.outward.said
    assert not daemon.journal.unfinished_runs()


def test_a_run_that_a_command_cancelled_is_not_taken_up_after_a_kill(daemon):
    turn(daemon, asked("c1", RollBack()))
    turn(daemon, asked("c2", CancelWork()))
    daemon.state = State()
    daemon.outward.said.clear()
    daemon._resume()
    turn(daemon, Online())
    assert daemon.worker.begun == ["r"]
    assert [(one.command_id, one.stage) for one in answers(daemon)] == [("c1", Stage.CANCELED)]


def test_clean_stops_cost_no_attempt(daemon):
    turn(daemon, asked("c1", RollBack()))
    for _ in range(5):
        daemon.mailbox.put(Stop())
        daemon.mailbox.put(Ended("r", Stage.CANCELED, "canceled"))
        assert daemon._turn()
        daemon.state = State()
        daemon._resume()
        turn(daemon, Online())
    assert daemon.worker.begun == ["r"] * 6


def asked(command: str, request: Request) -> Asked:
    return Asked(Command(id=CommandId(command), request=request), "r", 0)
