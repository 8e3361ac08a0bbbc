"""What the daemon must not forget."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from agent.core.control.command import Command
    from agent.core.control.journal import (
        Answered,
        Arrival,
        Entry,
        Evicted,
        OutboxCounts,
        Outgoing,
        Row,
        Run,
    )
    from agent.core.prediction.history import PastMeasurement


class Journal(Protocol):
    """What must survive a crash: outbox, inbox, runs, counters, past measurements.

    Every method may raise StoreError: "disk_full", "busy", "damaged" or "store".
    """

    def atomic(self) -> AbstractContextManager[None]:
        """Make everything inside one transaction: on the disk together or not at all."""

    def next(self, name: str) -> int:
        """Count up and return a persisted counter, from 1."""

    def append(self, message: Outgoing) -> int:
        """Put a message into the outbox and return its key."""

    def pending(self, after: int, count: int) -> Sequence[Row]:
        """Return the next messages to send, in order, with keys above `after`."""

    def delivered(self, keys: Sequence[int]) -> None:
        """Forget delivered messages; events, results and reports stay for `resend` a while."""

    def park(self, key: int, reason: str) -> None:
        """Set aside a message that the broker will never take."""

    def resend(self, streams: Sequence[str], first: int) -> int:
        """Queue what was sent or parked again, from number `first` on; return how many."""

    def evict(self) -> Sequence[Evicted]:
        """Give up what has expired or is too much, least valuable first, and count it."""

    def counts(self) -> OutboxCounts:
        """Return what waits and what was lost."""

    def receive(self, command: Command) -> Arrival:
        """Store a command as RECEIVED unless its id is known; say which it is."""

    def advance(self, command_id: str, answer: Answered) -> int:
        """Store a command's stage; return its version, 0 if the inbox doesn't have the id.

        Raises:
            StoreError: "stage" if the stage may not follow the stored one.
        """

    def entry(self, command_id: str) -> Entry | None:
        """Return what is known of a command."""

    def unanswered(self) -> Sequence[Entry]:
        """Return the commands without a final stage, oldest first."""

    def begin_run(self, run_id: str, trigger: str, command_id: str | None, spec: str) -> int:
        """Store that a run begins, or begins again; return the number of attempts so far."""

    def update_run(self, run_id: str, *, stage: str = "", outcome: str = "") -> None:
        """Store how far a run has come, or how it ended."""

    def unfinished_runs(self) -> Sequence[Run]:
        """Return the runs without an outcome, oldest first."""

    def record(self, measurement: PastMeasurement) -> None:
        """Keep a measurement for later predictions."""

    def history(self, count: int) -> Sequence[PastMeasurement]:
        """Return the newest measurements, newest first."""
