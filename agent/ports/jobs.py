"""Heavy work in child processes: what a job is, and what runs it."""

from __future__ import annotations

import threading
from typing import ClassVar, Generic, Protocol

from agent.ports.types import Progress, RecordT


class JobSpec(Generic[RecordT]):
    """What a job is given; `RecordT` is the class of its result.

    Each kind of job is a subclass in `agent.wire.jobs`, with the values of these attributes.

    Attributes:
        limit_s: Seconds after which the job is ended, unless a kind computes its `timeout_s`.
        ended_by_silence: Whether that time starts again with every report of progress.
        slow_hint: What to do if the job takes too long.
        memory_hint: What to do if the job needs too much memory.
        niceness: Added to that of the process.
        ended_by_kernel: Whether SIGTERM ends the process at once, without cleaning up.
        per_candidate: Whether a run's progress counts the candidates, with one job for each.
    """

    __slots__ = ()

    limit_s: ClassVar[float] = 900.0
    ended_by_silence: ClassVar[bool] = False
    slow_hint: ClassVar[str] = ""
    memory_hint: ClassVar[str] = "free memory, or add swap"
    niceness: ClassVar[int] = 0
    ended_by_kernel: ClassVar[bool] = False
    per_candidate: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        """Return the name of the kind of job."""
        raise NotImplementedError

    @property
    def timeout_s(self) -> float:
        """Return the seconds after which the job is ended."""
        return self.limit_s

    @classmethod
    def result(cls) -> type[RecordT]:
        """Return the class of the job's result."""
        raise NotImplementedError


class Jobs(Protocol):
    """Runs one piece of heavy work in a child process."""

    def run(
        self, spec: JobSpec[RecordT], *, progress: Progress, cancelled: threading.Event
    ) -> RecordT:
        """Run the job and return its result.

        Args:
            spec: The job.
            progress: Called with each report of progress, from the calling thread.
            cancelled: Set from outside to end the job within seconds.

        Raises:
            JobError: "canceled", "timed_out", "no_memory", or "died" with the signal and the
                memory it had taken.
            QuantdError: that the job itself raised, with its class and code.
        """
        ...
