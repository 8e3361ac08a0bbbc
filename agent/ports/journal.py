"""The daemon's persistent state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """State that survives a crash: outbox, inbox, runs, counters, past measurements.

    Every method may raise StoreError: "disk_full", "busy", "damaged" or "store".
    """

    def atomic(self) -> AbstractContextManager[None]:
        """Run the block as one transaction; blocks may be nested."""

    def next(self, name: str) -> int:
        """Add 1 to a persisted counter and return it; the first is 1."""

    def last(self, name: str) -> int:
        """Return a persisted counter as it is, 0 before the first."""

    def recall(self, name: str) -> str:
        """Return what was remembered under a name, "" if nothing was."""

    def remember(self, name: str, text: str) -> None:
        """Store a text under a name; "" removes it."""

    def append(self, message: Outgoing) -> int:
        """Put a message into the outbox and return its key."""

    def pending(self, after: int, count: int, *, births: bool | None = None) -> Sequence[Row]:
        """Return the next messages to send, in order, with keys above `after`.

        Args:
            after: The key of the last message that was sent, 0 for none.
            count: How many at most.
            births: Only state and meta, or only the others; None for both.
        """

    def delivered(self, keys: Sequence[int]) -> None:
        """Remove delivered messages; events, results and reports are kept for `resend` for a while."""

    def park(self, key: int, reason: str) -> None:
        """Exclude a message from sending that the broker will never accept."""

    def resend(self, streams: Sequence[str], first: int, last: int | None = None) -> int:
        """Queue sent and parked messages again, numbers `first` to `last`; return how many."""

    def evict(self) -> Sequence[Evicted]:
        """Remove messages that have expired or exceed the limits, least valuable first; count them.

        Commands that are too old to be sent again are removed too. Call it now and then.
        """

    def counts(self) -> OutboxCounts:
        """Return the numbers of waiting, parked and evicted messages."""

    def receive(self, command: Command) -> Arrival:
        """Store a command as RECEIVED unless its id is known; return whether it is."""

    def advance(self, command_id: str, answer: Answered) -> int:
        """Store a command's stage; return its version, 0 if the inbox doesn't have the id.

        Raises:
            StoreError: "stage" if the stage may not follow the stored one.
        """

    def entry(self, command_id: str) -> Entry | None:
        """Return the stored entry of a command, None if there is none."""

    def unanswered(self) -> Sequence[Entry]:
        """Return the commands without a final stage, oldest first."""

    def begin_run(self, run_id: str, trigger: str, command_id: str | None, spec: str) -> None:
        """Store the start of a run; a repeated one is one more attempt."""

    def specify_run(self, run_id: str, spec: str) -> None:
        """Replace the spec of a run by a more definite one."""

    def reach(self, run_id: str, stage: str) -> None:
        """Store that a run has reached a stage; from a new one on, attempts are counted again."""

    def interrupt_run(self, run_id: str, *, final: bool) -> None:
        """Store that a run is cancelled: for good, or by a stop, which costs it no attempt."""

    def end_run(self, run_id: str, outcome: str) -> None:
        """Store the outcome of a run."""

    def unfinished_runs(self) -> Sequence[Run]:
        """Return the runs without an outcome, oldest first."""

    def outcomes(self) -> Mapping[str, int]:
        """Return how many runs ended with each outcome."""

    def record(self, measurement: PastMeasurement) -> None:
        """Store a measurement for later predictions."""

    def history(self, count: int) -> Sequence[PastMeasurement]:
        """Return the newest measurements, newest first."""
