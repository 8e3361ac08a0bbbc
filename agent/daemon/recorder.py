"""Records and publishes effects: what follows from one event is one transaction.

While the journal can't be written (disk full, read-only, locked, damaged) the effects wait here.
Each turn of the loop tries once; a failure is logged once, and its end is an event.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agent.core.control.effects import (
    Answer,
    Begin,
    Cancel,
    Close,
    Effect,
    Effects,
    PublishEvent,
    PublishState,
    PublishTelemetry,
    Reach,
)
from agent.core.control.step import State
from agent.core.errors import StoreError
from agent.ports import Clock, Journal
from agent.wire.commands import encode_task

_LOG = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Recorder:
    """The effects not yet recorded, and whether they can be.

    Attributes:
        publish: Puts into the outbox what an effect is about; ignores the others.
        trouble: Why the journal can't be written; None while it can.
        blocked: Whether it failed in this turn, so that nothing else is tried in it.
    """

    journal: Journal
    publish: Callable[[Effect, State], None]
    clock: Clock
    trouble: StoreError | None = None
    blocked: bool = False
    _owed: Effects = ()
    _since_ns: int = 0

    def owe(self, effects: Effects) -> None:
        """Add effects to be recorded by the next `settle`."""
        self._owed += effects

    def withdraw(self, run_id: str) -> bool:
        """Drop a run that is not on record and so has not begun; return whether there was one."""
        kept = tuple(
            effect
            for effect in self._owed
            if not (isinstance(effect, Begin) and effect.work.run_id == run_id)
        )
        withdrawn = len(kept) < len(self._owed)
        self._owed = kept
        return withdrawn

    def settle(self, state: State) -> Effects:
        """Record and publish what is owed, all or none; return what was recorded."""
        owed = self._owed
        if self.blocked or not owed or not self._write(owed, state):
            return ()
        self._owed = ()
        for effect in owed:
            if isinstance(effect, Begin):
                _LOG.info("run_started run_id=%s kind=%s", effect.work.run_id, effect.work.kind)
            elif isinstance(effect, Close):
                _LOG.info("run_ended run_id=%s outcome=%s", effect.run_id, effect.outcome)
        return owed

    def failed(self, error: StoreError) -> None:
        """Note that the journal could not be written or read."""
        if self.trouble is None:
            self._since_ns = self.clock.monotonic_ns()
        if self.trouble is None or self.trouble.code != error.code:
            _LOG.error("journal_failed code=%s %s", error.code, error.message)
        self.trouble, self.blocked = error, True
        self._owed = _lasting(self._owed)

    def end_turn(self, state: State) -> None:
        """Publish the end of a failure once a whole turn passed without it."""
        blocked, self.blocked = self.blocked, False
        if self.trouble is None or blocked:
            return
        lasted_s = round((self.clock.monotonic_ns() - self._since_ns) / 1e9, 1)
        facts = {"code": self.trouble.code, "detail": self.trouble.message, "lasted_s": lasted_s}
        if self._write((PublishEvent("journal_works_again", "warning", facts),), state):
            self.trouble = None
            _LOG.info("journal_works_again lasted_s=%.1f", lasted_s)
        self.blocked = False

    def _write(self, effects: Sequence[Effect], state: State) -> bool:
        try:
            with self.journal.atomic():
                for effect in effects:
                    self._record(effect)
                    self.publish(effect, state)
        except StoreError as error:
            self.failed(error)
            return False
        return True

    def _record(self, effect: Effect) -> None:
        """Write into the journal what must survive a crash."""
        if isinstance(effect, Begin):
            work = effect.work
            spec = encode_task(work.task)
            self.journal.begin_run(work.run_id, work.trigger, work.command_id, spec)
        elif isinstance(effect, Reach):
            self.journal.reach(effect.run_id, effect.stage)
        elif isinstance(effect, Cancel):
            self.journal.interrupt_run(effect.run_id, final=effect.final)
        elif isinstance(effect, Close):
            self.journal.end_run(effect.run_id, effect.outcome)


def _lasting(effects: Effects) -> Effects:
    """Return the effects without what is out of date later: figures, progress, earlier states."""
    states = [effect for effect in effects if isinstance(effect, PublishState)]
    kept: list[Effect] = []
    for effect in effects:
        if isinstance(effect, PublishState):
            if effect is states[-1]:
                with_meta = any(state.with_meta for state in states)
                kept.append(replace(effect, with_meta=with_meta))
        elif isinstance(effect, Answer) and effect.step:
            continue
        elif not isinstance(effect, PublishTelemetry):
            kept.append(effect)
    return tuple(kept)
