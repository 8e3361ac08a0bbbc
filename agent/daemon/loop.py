"""The daemon's main thread: one mailbox, one state, effects performed in order.

Nothing else touches the state. The watchdog is petted only here, after the mailbox was
drained for a second at most: a loop which hangs is restarted by the service manager, and one
that receives more than it can handle still sends and keeps its times. Work begins once it is on
record: one that no restart knows of could be done twice.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType

from agent.core.control.command import Command, CommandId, Stage
from agent.core.control.effects import Answer, Begin, Cancel, Close, Effect, Effects, Exit
from agent.core.control.events import (
    Asked,
    Due,
    Ended,
    Event,
    Offline,
    Online,
    Resume,
    Stop,
    Tick,
    Work,
)
from agent.core.control.journal import Entry, Run
from agent.core.control.link import (
    Acked,
    CommandArrived,
    Connected,
    Disconnected,
    LinkEvent,
    Subscribed,
)
from agent.core.control.requests import Task
from agent.core.control.step import State, ended, step
from agent.core.errors import CommandError, StoreError
from agent.daemon.inspector import Inspector
from agent.daemon.mailbox import Mailbox
from agent.daemon.recorder import Recorder
from agent.daemon.worker import Worker
from agent.ports import Clock, Journal, Notifier
from agent.wire.commands import decode_request, decode_task

_LOG = logging.getLogger(__name__)
_WAKE_S = 2.0  # half as often costs half as much; what comes is handled at once
_TURN_NS = 1_000_000_000  # of handling events, before all else has its turn
_ATTEMPTS = 3  # a run that took the daemon down this often, and got no further, is given up
_JOIN_S = 20.0
_BATCH = 50  # commands in one transaction


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
        recover: Undoes what an interrupted activation left.
        stopping: Set at the first signal, for what runs before the loop or after it.
        new_id: Makes run ids.
        active: Returns the active release, None where none is.
        settled: Returns the end of a run that has finished its switch of releases, else None.
    """

    mailbox: Mailbox
    journal: Journal
    outward: Outward
    worker: Worker
    inspector: Inspector
    notifier: Notifier
    clock: Clock
    due: Callable[[], bool]
    recover: Callable[[], object]
    new_id: Callable[[], str]
    active: Callable[[], str | None]
    settled: Callable[[str], Ended | None]
    stopping: threading.Event = field(default_factory=threading.Event)
    state: State = field(default_factory=State)
    _recorder: Recorder = field(init=False)

    def __post_init__(self) -> None:
        def publish(effect: Effect, state: State) -> None:
            self.outward.publish(effect, state)

        self._recorder = Recorder(journal=self.journal, publish=publish, clock=self.clock)

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; return the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        if not self._start(self.recover) or self.stopping.is_set():
            return 0
        if not self._start(self._resume):
            return 0
        self.outward.start()
        self.notifier.ready(self._status)
        self.inspector.begin()
        leaving = False
        while not leaving:
            leaving = self._turn()
        self.notifier.stopping()
        self.worker.cancel()
        self.inspector.stop(_JOIN_S)
        self.worker.join(_JOIN_S)
        self.outward.stop()
        return 1 if self._damaged else 0

    def _start(self, act: Callable[[], object]) -> bool:
        """Do what the start needs; while the disk doesn't allow it, wait. Return False if stopped."""
        seen = ""
        while True:
            try:
                act()
            except StoreError as error:
                if error.code != seen:
                    _LOG.error("start_waits code=%s %s", error.code, error)
                seen = error.code
                self.notifier.alive(f"waiting: {error.message}")
            else:
                return True
            with contextlib.suppress(queue.Empty):
                self.mailbox.get(_WAKE_S)  # nothing but a signal can have put anything
                return False

    @property
    def _damaged(self) -> bool:
        """Return whether the journal's file is damaged: the next start creates a new one."""
        trouble = self._recorder.trouble
        return trouble is not None and trouble.code == "damaged"

    @property
    def _status(self) -> str:
        trouble = self._recorder.trouble
        waits = f"; the journal can't be written ({trouble.code})" if trouble else ""
        return self.state.status + waits

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        _LOG.info("stop_requested signal=%s", signal.Signals(number).name)
        self.stopping.set()
        self.mailbox.put(Stop())

    def _turn(self) -> bool:
        """Handle what is in the mailbox, for a while; return True when it is time to leave."""
        leaving = False
        wait_s, end_ns = _WAKE_S, None
        with contextlib.suppress(queue.Empty):
            while end_ns is None or self.clock.monotonic_ns() < end_ns:
                event = self.mailbox.get(wait_s, commands=self._recorder.trouble is None)
                wait_s, end_ns = 0.0, end_ns or self.clock.monotonic_ns() + _TURN_NS
                leaving |= self._handle(event)
                if not self.mailbox.acks_wait:
                    self._pump()
        leaving |= self._retry()
        leaving |= self._step(Tick(self.clock.monotonic_ns()))
        if self.due():
            leaving |= self._step(Due(self.new_id()))
        self._pump()
        self._recorder.end_turn(self.state)
        self.notifier.alive(self._status)
        return leaving or self._damaged

    def _retry(self) -> bool:
        """Handle commands once a turn, after its wait, while the journal can't be written."""
        if self._recorder.trouble is None or self._recorder.blocked:
            return False
        waiting = self.mailbox.commands(_BATCH)
        return self._handle_commands(waiting) if waiting else False

    def _pump(self) -> None:
        if self._recorder.blocked:
            return
        try:
            self.outward.pump()
        except StoreError as error:
            self._recorder.failed(error)

    def _handle(self, event: Event | LinkEvent) -> bool:
        if isinstance(event, CommandArrived):
            return self._handle_commands((event, *self.mailbox.commands(_BATCH - 1)))
        if isinstance(event, (Connected, Subscribed, Disconnected, Acked)):
            return self._handle_link(event)
        return self._step(event)

    def _handle_link(self, event: LinkEvent) -> bool:
        try:
            self.outward.take(event)
        except StoreError as error:
            self._recorder.failed(error)
        if isinstance(event, (Connected, Subscribed)):
            return self._step(Online())
        if isinstance(event, Disconnected):
            return self._step(Offline(event.reason))
        return False

    def _handle_commands(self, arrived: Sequence[CommandArrived]) -> bool:
        """Store a batch of commands and begin them; what can't be stored now waits."""
        try:
            commands = self.outward.admit(arrived)
        except StoreError as error:
            self._recorder.failed(error)
            self.mailbox.put_back(arrived)
            return False
        return self._step(*self._asked(commands))

    def _asked(self, commands: Sequence[Command], *, accepted: bool = False) -> list[Asked]:
        """Return the events of commands; only work needs an id, for which folders are read."""
        now_ns, active = self.clock.monotonic_ns(), self.active()
        return [
            Asked(
                command,
                self.new_id() if isinstance(command.request, Task) else "",
                now_ns,
                active,
                accepted,
            )
            for command in commands
        ]

    def _step(self, *events: Event) -> bool:
        """Take events into the state; record what follows in one transaction, then perform it."""
        effects: Effects = ()
        for event in events:
            self.state, more = step(self.state, event)
            effects += more
        self._recorder.owe(effects)
        self._settle()
        for effect in effects:
            if isinstance(effect, Cancel):
                self._cancel(effect.run_id)
        return any(isinstance(effect, Exit) for effect in effects)

    def _settle(self) -> None:
        for effect in self._recorder.settle(self.state):
            if isinstance(effect, Begin):
                self.worker.begin(effect.work)

    def _cancel(self, run_id: str) -> None:
        if self._recorder.withdraw(run_id):
            self.mailbox.put(Ended(run_id, Stage.CANCELED, "canceled"))
        else:
            self.worker.cancel()

    def _resume(self) -> None:
        """Take up what a crash or a stop interrupted: runs first, then commands not begun."""
        runs, entries = self.journal.unfinished_runs(), self.journal.unanswered()
        for run in runs:
            self._take_up(run)
        begun = {run.command_id for run in runs}
        for entry in entries:
            if entry.command_id not in begun:
                self._ask_again(entry)

    def _ask_again(self, entry: Entry) -> None:
        accepted = entry.stage is not Stage.RECEIVED
        try:
            request = decode_request(entry.type, entry.args)
        except CommandError as error:
            stage = Stage.FAILED if accepted else Stage.REJECTED
            self._recorder.owe((Answer(entry.command_id, stage, error.code, error.message),))
            return
        command = Command(id=CommandId(entry.command_id), request=request)
        self._step(*self._asked([command], accepted=accepted))

    def _take_up(self, run: Run) -> None:
        """Continue an unfinished run, unless it was cancelled or ends the daemon every time."""
        try:
            task = decode_task(run.spec)
        except CommandError as error:
            self._recorder.owe((Close(run.run_id, error.code),))
            if run.command_id:
                answer = Answer(run.command_id, Stage.FAILED, error.code, error.message)
                self._recorder.owe((answer,))
            return
        work = Work(
            task=task,
            run_id=run.run_id,
            trigger=run.trigger,
            command_id=run.command_id,
            attempt=run.attempts + 1,
        )
        if run.canceled:
            end = Ended(run.run_id, Stage.CANCELED, "canceled", "cancelled by a command")
        elif run.attempts >= _ATTEMPTS:
            seen = f"given up after {run.attempts} attempts that each ended the daemon"
            end = Ended(run.run_id, Stage.FAILED, "interrupted", seen)
        else:
            _LOG.info("run_resumed run_id=%s attempt=%d", run.run_id, work.attempt)
            self._step(Resume(work))
            return
        self._recorder.owe(ended(work, self.settled(run.run_id) or end))
