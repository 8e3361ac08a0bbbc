"""One thread, one job at a time; it posts events and owns no state of the daemon."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from agent.core.control.command import Stage
from agent.core.control.events import Doubted, Ended, Event, Progressed, Work
from agent.core.errors import QuantdError
from agent.ports import Clock
from agent.run.artifacts import Observe

_LOG = logging.getLogger(__name__)
_OUTCOME = {"canceled": Stage.CANCELED, "timed_out": Stage.TIMED_OUT}


class Perform(Protocol):
    """Does the work; returns (stage, code, detail, result)."""

    def __call__(
        self,
        work: Work,
        observe: Observe,
        cancelled: threading.Event,
        *,
        warn: Callable[[str], None],
    ) -> tuple[Stage, str, str, str]:
        """See `wiring.work.perform`."""
        ...


@dataclass
class Worker:
    """Runs work handed to it in a thread of its own.

    Attributes:
        perform: Does the work; raises a QuantdError where it fails.
        post: Puts an event into the daemon's mailbox.
        clock: For the times of progress events.
    """

    perform: Perform
    post: Callable[[Event], None]
    clock: Clock
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def begin(self, work: Work) -> None:
        """Start the work; the daemon starts the next only when this one has ended."""
        self._cancelled = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(work, self._cancelled), name="worker", daemon=True
        )
        self._thread.start()

    def cancel(self) -> None:
        """Ask the running work to end; its end is an event as always."""
        self._cancelled.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the running work; return True if the worker is idle."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def _run(self, work: Work, cancelled: threading.Event) -> None:
        def observe(stage: str, done: int, total: int, note: str) -> None:
            self.post(Progressed(work.run_id, stage, done, total, note, self.clock.monotonic_ns()))

        def warn(words: str) -> None:
            _LOG.warning("input_doubtful run_id=%s %s", work.run_id, words)
            self.post(Doubted(work.run_id, words))

        try:
            stage, code, detail, result = self.perform(work, observe, cancelled, warn=warn)
            self.post(Ended(work.run_id, stage, code, detail, result))
        except QuantdError as error:
            stage = _OUTCOME.get(error.code, Stage.FAILED)
            wanted = error.code == "canceled"  # by a command, or by the end of the daemon
            level, event = (logging.INFO, "canceled") if wanted else (logging.ERROR, "failed")
            facts = (event, work.run_id, error.code, error.message)
            _LOG.log(level, "work_%s run_id=%s code=%s %s", *facts)
            self.post(Ended(work.run_id, stage, error.code, str(error)))
        except Exception as error:  # the worker must outlive a bug, and the bug must be seen
            _LOG.exception("work_crashed run_id=%s", work.run_id)
            detail = f"{type(error).__name__}: {error}"
            self.post(Ended(work.run_id, Stage.FAILED, "internal", detail))
