"""The whole daemon over its real journal, with a crash before or after any of its commits.

The link and the worker are fakes that hypothesis drives; the broker in the fake repeats what was
not acknowledged, as a real one does. A ledger sees every message that the broker took.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent import config as configuration
from agent.core.control.command import Stage
from agent.core.control.events import Ended, Progressed, Stop, Work
from agent.core.control.link import CommandArrived, Connected, Disconnected
from agent.daemon import loop
from agent.daemon.loop import Daemon
from agent.wiring import daemon as wiring
from tests.fakes.link import FakeLink
from tests.support.ledger import FINAL, Ledger

_BASE = "quantd/v1/cam-1"
_BODIES: dict[str, dict[str, Any]] = {
    "ping": {"type": "ping"},
    "rollback": {"type": "rollback"},
    "activate": {"type": "activate", "args": {"release": "r9"}},
    "cancel": {"type": "cancel"},
    "resend": {"type": "resend", "args": {"from_seq": 1}},
    "events": {"type": "resend", "args": {"from_seq": 1, "stream": "event"}},
}


class Crash(BaseException):
    """The process ends here."""


class Clock:
    """Both clocks, moved by the test."""

    now_ns = 10**12

    def monotonic_ns(self) -> int:
        Clock.now_ns += 1_000_000
        return Clock.now_ns

    def utc(self) -> str:
        return "2026-11-23T10:00:00.000Z"

    def synchronized(self) -> bool:
        return True


class Connection:
    """A connection to SQLite that crashes at a commit, or finds the disk full."""

    def __init__(self, real: sqlite3.Connection) -> None:
        self._real = real
        self.commits_left: int | None = None
        self.crash_after = False
        self.full = False

    def execute(self, sql: str, values: Any = ()) -> sqlite3.Cursor:
        if sql != "COMMIT":
            return self._real.execute(sql, values)
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        if self.commits_left == 0 and not self.crash_after:
            raise Crash
        done = self._real.execute(sql)
        if self.commits_left is not None:
            self.commits_left -= 1
            if self.commits_left < 0:
                raise Crash
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Hand:
    """A worker that works as long as the test likes."""

    def __init__(self, post: Callable[[Any], None]) -> None:
        self._post = post
        self.begun: list[Work] = []
        self.working: Work | None = None

    def begin(self, work: Work) -> None:
        assert self.working is None
        assert work.run_id not in [one.run_id for one in self.begun]
        self.begun.append(work)
        self.working = work

    def cancel(self) -> None:
        if self.working is not None:
            self.end(Stage.CANCELED)

    def end(self, stage: Stage) -> None:
        assert self.working is not None
        self._post(Ended(self.working.run_id, stage))
        self.working = None

    def join(self, _timeout_s: float) -> bool:
        return True


class Broker(FakeLink):
    """The broker and the link to it: repeats commands, keeps what it was given in a ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(_BASE)
        self.retained: dict[str, int] = {}
        self.commands: dict[int, tuple[str, bytes]] = {}  # not acknowledged, by their place
        self.post: Callable[[Any], None] = lambda _: None
        self.next_session: Callable[[], int] = lambda: 1
        self._places = 0

    def make(self, *_: object, **parts: Any) -> Broker:
        """Stand in for the class of the real link."""
        self.post, self.next_session = parts["post"], parts["next_session"]
        return self

    def open(self) -> None:
        self.connect()
        self.session = self.next_session()
        self.post(Connected(self.session, True, None))
        # as from the real link: what comes again over a later connection has greater numbers
        first = self._places + 1
        self._places += len(self.commands)
        self.commands = dict(enumerate(self.commands.values(), first))
        for place in self.commands:
            self._deliver(place)

    def start(self) -> None:
        """Connect anew, as the real link does where the daemon finds the broker silent."""
        self.lose()
        self.open()

    def command(self, command_id: str, body: bytes) -> None:
        self._places += 1
        self.commands[self._places] = (f"{_BASE}/cmd/{command_id}", body)
        if self.online:
            self._deliver(self._places)

    def acknowledge(self, message: int) -> None:
        self.commands.pop(message, None)

    def broker_takes(self, count: int) -> list[int]:
        numbers = list(self.unacked)[:count]
        for number in numbers:
            topic, body = self.unacked[number]
            head = self.ledger.note(topic, body)
            if head is not None and topic.startswith(f"{_BASE}/report/"):
                self.retained[topic] = head.seq
        return numbers

    def _deliver(self, place: int) -> None:
        topic, body = self.commands[place]
        self.post(CommandArrived(topic, body, False, place))


class Crashes(RuleBasedStateMachine):
    """Nothing is lost, the order is kept, no command continues after its end."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.config = configuration.from_dump(
            {
                "device": {"id": "cam-1"},
                "storage": {"dir": self.folder.name},
                "mqtt": {"host": "127.0.0.1", "port": 1},
                "commands": {"require_signature": False},
            }
        )
        self.broker = Broker()
        self.sent: dict[str, bytes] = {}
        self.patches = [
            mock.patch.object(wiring, "MqttLink", self.broker.make),
            mock.patch.object(wiring, "SystemClock", Clock),
            mock.patch.object(loop, "_WAKE_S", 0.0),
        ]
        for patch in self.patches:
            patch.start()
        self.daemon: Daemon
        self.life()
        self.broker.open()

    def life(self) -> None:
        """Start the daemon, as `run` does."""
        self.daemon = wiring.daemon(self.config)
        database = self.daemon.journal._db
        database._db.execute("PRAGMA synchronous = OFF")
        self.connection = database._db = Connection(database._db)
        self.worker = self.daemon.worker = Hand(self.daemon.mailbox.put)
        self.daemon._resume()
        self.turn()

    def dies(self, taken: int) -> None:
        """End the process and start the next; what the broker had of it, it keeps."""
        was_online = self.broker.online
        self.broker.broker_takes(taken)
        self.broker.lose()
        self.connection._real.close()
        self.life()
        if was_online:
            self.broker.open()

    def turn(self) -> None:
        self.daemon._turn()

    @rule(kind=st.sampled_from(sorted(_BODIES)), count=st.integers(1, 4))
    def command(self, kind: str, count: int) -> None:
        for _ in range(count):
            command_id = f"{kind}{len(self.sent)}"
            self.sent[command_id] = json.dumps(_BODIES[kind]).encode()
            self.broker.command(command_id, self.sent[command_id])

    @precondition(lambda self: self.sent)
    @rule(place=st.integers(0, 50), forged=st.booleans())
    def again(self, place: int, forged: bool) -> None:
        command_id = list(self.sent)[place % len(self.sent)]
        body = self.sent[command_id]
        self.broker.command(command_id, body + b" " if forged else body)

    @precondition(lambda self: not self.broker.online)
    @rule()
    def connect(self) -> None:
        self.broker.open()

    @precondition(lambda self: self.broker.online)
    @rule(taken=st.integers(0, 30), turns=st.integers(0, 2), back=st.booleans())
    def lose(self, taken: int, turns: int, back: bool) -> None:
        self.broker.broker_takes(taken)
        self.broker.lose()
        self.daemon.mailbox.put(Disconnected("lost"))
        for _ in range(turns):
            self.turn()
        if back:
            self.broker.open()

    @precondition(lambda self: self.broker.online)
    @rule(count=st.integers(1, 30))
    def take(self, count: int) -> None:
        for number in self.broker.broker_takes(count):
            self.daemon.mailbox.put(self.broker.answer(number))
        self.turn()

    @rule()
    def run(self) -> None:
        self.turn()

    @rule(
        commits=st.integers(0, 5),
        after=st.booleans(),
        taken=st.integers(0, 30),
        kind=st.sampled_from([*sorted(_BODIES), "report", "end"]),
    )
    def crash(self, commits: int, after: bool, taken: int, kind: str) -> None:
        """End the process at a commit of what it does next."""
        if kind in _BODIES:
            self.command(kind, 1)
        elif kind == "end" and self.worker.working:
            self.worker.end(Stage.SUCCEEDED)
        self.connection.commits_left, self.connection.crash_after = commits, after
        try:
            if kind == "report":
                self.report()
            self.turn()
        except Crash:
            self.dies(taken)
        else:
            self.connection.commits_left = None

    @rule(taken=st.integers(0, 30))
    def cut(self, taken: int) -> None:
        self.dies(taken)

    @precondition(lambda self: self.worker.working)
    @rule(stage=st.sampled_from([Stage.SUCCEEDED, Stage.FAILED, Stage.ROLLED_BACK]))
    def work_ends(self, stage: Stage) -> None:
        self.report()
        self.worker.end(stage)

    @precondition(lambda self: self.worker.working)
    @rule(step=st.sampled_from(["build", "measure"]))
    def work_progresses(self, step: str) -> None:
        run = self.worker.working.run_id
        self.daemon.mailbox.put(Progressed(run, step, 1, 2, "", Clock.now_ns))

    @rule()
    def report(self) -> None:
        """Publish a report beside the loop's own messages."""
        self.daemon.outward.messages.report("faces", {})

    @rule(turns=st.integers(1, 3), crash=st.booleans())
    def full_disk(self, turns: int, crash: bool) -> None:
        """Nothing can be committed for a while; perhaps the process ends meanwhile."""
        self.connection.full = True
        for _ in range(turns):
            self.turn()
            Clock.now_ns += 2_000_000_000
        self.connection.full = False
        if crash:
            self.dies(0)
        self.turn()

    @rule()
    def stop(self) -> None:
        """SIGTERM, and the next start."""
        self.daemon.mailbox.put(Stop())
        for _ in range(5):
            if self.daemon._turn():
                break
        self.dies(0)

    @invariant()
    def promises(self) -> None:
        found = self.broker.ledger.findings()
        assert found.none, found
        assert self.broker.ledger.run_twice() == []

    def teardown(self) -> None:
        """Let everything calm down: every command has ended and every number was delivered."""
        try:
            self.calm()
        finally:
            for patch in self.patches:
                patch.stop()
            self.connection._real.close()
            self.folder.cleanup()

    def calm(self) -> None:
        Clock.now_ns += 60_000_000_000
        if not self.broker.online:
            self.broker.open()
        for _ in range(400):
            if self.worker.working:
                self.worker.end(Stage.SUCCEEDED)
            Clock.now_ns += 2_000_000_000
            self.take(1000)
            if not (self.broker.unacked or self.broker.commands or self.worker.working) and (
                self.daemon.journal.counts().waiting == 0
            ):
                break
        journal, ledger = self.daemon.journal, self.broker.ledger
        assert journal.counts().waiting == 0
        assert self.broker.commands == {}
        assert not journal.unfinished_runs()
        assert not journal.unanswered()
        ends = {
            stream: journal._db.number(
                "SELECT value FROM counters WHERE name = ?", (f"seq_{stream}",)
            )
            for stream in ("event", "result", "report", "telemetry")
        }
        found = ledger.findings(ends)
        assert found.none, found
        assert ledger.run_twice() == []
        for command_id in self.sent:
            heads = ledger.answers[command_id]
            genuine = {head.version for head in heads if head.stage in FINAL and head.version}
            assert len(genuine) == 1 or any(head.stage == "REJECTED" for head in heads)
        # a report exists once its number is committed, which a crash may have prevented
        newest = {f"{_BASE}/report/faces": ends["report"]} if ends["report"] else {}
        assert self.broker.retained == newest


TestCrashes = Crashes.TestCase
TestCrashes.settings = settings(max_examples=8, stateful_step_count=20, deadline=None)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(1200)
class TestCrashesAtLength(Crashes.TestCase):
    settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
