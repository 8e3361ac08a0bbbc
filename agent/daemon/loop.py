"""The daemon's main thread: one mailbox, one state, effects performed in order.

Nothing else touches the state. The watchdog is petted only here, after the mailbox was
drained for a second at most: a loop which hangs is restarted by the service manager, and one
that receives more than it can handle still sends and keeps its times. What one step changes in
the journal is one transaction: a crash between two effects leaves neither.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType

from agent.core.control.command import Command, CommandId, Stage
from agent.core.control.effects import Answer, Begin, Cancel, Close, Effect, Exit, PublishTelemetry
from agent.core.control.events import (
    Asked,
    Due,
    Event,
    Offline,
    Online,
    Resume,
    Stop,
    Tick,
    Work,
)
from agent.core.control.journal import Run
from agent.core.control.link import (
    Acked,
    CommandArrived,
    Connected,
    Disconnected,
    LinkEvent,
    Refused,
)
from agent.core.control.step import State, step
from agent.core.errors import CommandError, StoreError
from agent.daemon.inspector import Inspector
from agent.daemon.mailbox import Mailbox
from agent.daemon.worker import Worker
from agent.ports import Clock, Journal, Notifier
from agent.wire.commands import decode_request, decode_task, encode_task

_LOG = logging.getLogger(__name__)
_WAKE_S = 1.0
_TURN_NS = 1_000_000_000  # of handling events, before all else has its turn
_ATTEMPTS = 3  # a run that took the daemon down this often is not tried again
_JOIN_S = 20.0
_PASSING = frozenset({"disk_full", "busy"})
_OWED_LIMIT = 1000
_BATCH = 50  # commands in one transaction
_RETRY_NS = 1_000_000_000


class Outward:
    """What the daemon publishes; this one, for a daemon without a broker, publishes nothing."""

    def start(self) -> None:
        """Begin connecting."""

    def take(self, event: LinkEvent) -> None:
        """Handle an event of the link, other than a command."""

    def admit(self, arrived: Sequence[CommandArrived]) -> Sequence[Command]:  # noqa: ARG002
        """Store commands, all or none, and acknowledge them; return those to run."""
        return ()

    def publish(self, effect: Effect, state: State) -> None:
        """Put into the outbox what an effect is about; ignore the others."""

    def pump(self) -> None:
        """Hand over what waits."""

    def stop(self) -> None:
        """Publish that the daemon shuts down."""


@dataclass(kw_only=True)
class Daemon:
    """The loop and all it works with.

    Attributes:
        due: Returns True once for each run that a schedule asks for.
        inspector: Looks at the active release at the start.
        recover: Undoes what an interrupted activation left; returns a line to log or "".
        new_id: Makes run ids.
    """

    mailbox: Mailbox
    journal: Journal
    outward: Outward
    worker: Worker
    inspector: Inspector
    notifier: Notifier
    clock: Clock
    due: Callable[[], bool]
    recover: Callable[[], str]
    new_id: Callable[[], str]
    state: State = field(default_factory=State)
    _owed: tuple[Effect, ...] = ()
    _trouble: str = ""
    _store_from_ns: int = 0

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; return the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        found = self.recover()
        if found:
            _LOG.warning("activation_recovered %s", found)
        self._resume()
        self.outward.start()
        self.notifier.ready(self.state.status)
        self.inspector.begin()
        leaving = False
        while not leaving:
            leaving = self._turn()
        self.notifier.stopping()
        self.worker.cancel()
        self.inspector.stop(_JOIN_S)
        self.worker.join(_JOIN_S)
        self.outward.stop()
        return 0

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        _LOG.info("stop_requested signal=%s", signal.Signals(number).name)
        self.mailbox.put(Stop())

    def _turn(self) -> bool:
        """Handle what is in the mailbox, for a while; return True when it is time to leave."""
        leaving = False
        wait_s, end_ns = _WAKE_S, None
        with contextlib.suppress(queue.Empty):
            while end_ns is None or self.clock.monotonic_ns() < end_ns:
                storing = self.clock.monotonic_ns() >= self._store_from_ns
                event = self.mailbox.get(wait_s, commands=storing)
                wait_s, end_ns = 0.0, end_ns or self.clock.monotonic_ns() + _TURN_NS
                leaving |= self._handle(event)
                if not self.mailbox.acks_wait:
                    self._pump()
        if self._owed:
            self._settle()
        leaving |= self._step(Tick(self.clock.monotonic_ns()))
        if self.due():
            leaving |= self._step(Due(self.new_id()))
        self._pump()
        self.notifier.alive(self.state.status)
        return leaving

    def _pump(self) -> None:
        try:
            self.outward.pump()
        except StoreError as error:
            _LOG.error("outbox_failed code=%s %s", error.code, error.message)

    def _handle(self, event: Event | LinkEvent) -> bool:
        if isinstance(event, CommandArrived):
            return self._handle_commands((event, *self.mailbox.commands(_BATCH - 1)))
        if isinstance(event, (Connected, Disconnected, Acked, Refused)):
            return self._handle_link(event)
        return self._step(event)

    def _handle_link(self, event: LinkEvent) -> bool:
        try:
            self.outward.take(event)
        except StoreError as error:
            _LOG.error("outbox_failed code=%s %s", error.code, error.message)
        if isinstance(event, Connected):
            return self._step(Online())
        if isinstance(event, Disconnected):
            return self._step(Offline(event.reason))
        return False

    def _handle_commands(self, arrived: Sequence[CommandArrived]) -> bool:
        """Store a batch of commands and begin them; what can't be stored now waits."""
        try:
            commands = self.outward.admit(arrived)
        except StoreError as error:
            _LOG.error("command_not_stored code=%s %s", error.code, error.message)
            if error.code in _PASSING:
                self.mailbox.put_back(arrived)
                self._store_from_ns = self.clock.monotonic_ns() + _RETRY_NS
            return False
        now_ns = self.clock.monotonic_ns()
        return self._step(*(Asked(command, self.new_id(), now_ns) for command in commands))

    def _step(self, *events: Event) -> bool:
        """Take events into the state; record what follows in one transaction, then perform it."""
        effects: tuple[Effect, ...] = ()
        for event in events:
            self.state, more = step(self.state, event)
            effects += more
        if not effects:
            return False
        self._owed = (*self._owed, *effects)
        self._settle()
        for effect in effects:
            if isinstance(effect, Begin):
                self.worker.begin(effect.work)
        if any(isinstance(effect, Cancel) for effect in effects):
            self.worker.cancel()
        return any(isinstance(effect, Exit) for effect in effects)

    def _settle(self) -> None:
        """Record and publish the effects owed, all or none; with a full disk, later."""
        try:
            with self.journal.atomic():
                for effect in self._owed:
                    self._record(effect)
                    self.outward.publish(effect, self.state)
        except StoreError as error:
            if str(error) != self._trouble:  # tried again each second, for days maybe
                _LOG.error("journal_failed code=%s %s", error.code, error.message)
            self._trouble = str(error)
            kept = [one for one in self._owed if not isinstance(one, PublishTelemetry)]
            self._owed = tuple(kept[-_OWED_LIMIT:]) if error.code in _PASSING else ()
        else:
            if self._trouble:
                _LOG.info("journal_works_again")
            self._owed, self._trouble = (), ""

    def _record(self, effect: Effect) -> None:
        """Write into the journal what must survive a crash."""
        if isinstance(effect, Begin):
            work = effect.work
            spec = encode_task(work.task)
            self.journal.begin_run(work.run_id, work.trigger, work.command_id, spec)
            _LOG.info("run_started run_id=%s kind=%s", work.run_id, work.kind)
        elif isinstance(effect, Close):
            self.journal.end_run(effect.run_id, effect.outcome)
            _LOG.info("run_ended run_id=%s outcome=%s", effect.run_id, effect.outcome)

    def _resume(self) -> None:
        """Take up what a crash or a stop interrupted: runs first, then commands not begun."""
        runs = self.journal.unfinished_runs()
        for run in runs:
            self._take_up(run)
        begun = {run.command_id for run in runs}
        for entry in self.journal.unanswered():
            if entry.command_id in begun:
                continue
            try:
                request = decode_request(entry.type, entry.args)
            except CommandError as error:
                with self.journal.atomic():
                    self._give_up(entry.command_id, error.code, error.message)
                continue
            command = Command(id=CommandId(entry.command_id), request=request)
            self._step(Asked(command, self.new_id(), self.clock.monotonic_ns()))

    def _take_up(self, run: Run) -> None:
        code, detail = (
            "interrupted",
            f"given up after {run.attempts} attempts that each ended the daemon",
        )
        if run.attempts < _ATTEMPTS:
            try:
                task = decode_task(run.spec)
            except CommandError as error:
                code, detail = error.code, error.message
            else:
                work = Work(
                    task=task,
                    run_id=run.run_id,
                    trigger=run.trigger,
                    command_id=run.command_id,
                    attempt=run.attempts + 1,
                )
                _LOG.info("run_resumed run_id=%s attempt=%d", run.run_id, work.attempt)
                self._step(Resume(work))
                return
        with self.journal.atomic():
            self.journal.end_run(run.run_id, code)
            if run.command_id:
                self._give_up(run.command_id, code, detail)

    def _give_up(self, command_id: str, code: str, detail: str) -> None:
        self.outward.publish(Answer(command_id, Stage.FAILED, code, detail), self.state)
