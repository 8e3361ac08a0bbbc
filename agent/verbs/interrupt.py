"""Ctrl-C in the foreground: the running job is ended and cleaned up after, then the verb."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from agent.core.errors import JobError


@contextmanager
def interruptible(cancelled: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C cancel, and raise KeyboardInterrupt once what runs has ended.

    A KeyboardInterrupt raised at once could surface in a destructor or a callback, which would
    swallow it. A second Ctrl-C doesn't wait.

    Args:
        cancelled: Watched by what runs inside, which raises a JobError "canceled".
    """

    def cancel(number: int, frame: FrameType | None) -> None:
        if cancelled.is_set():
            signal.default_int_handler(number, frame)
        cancelled.set()

    before = signal.signal(signal.SIGINT, cancel)
    try:
        yield
    except JobError as error:
        if error.code == "canceled" and cancelled.is_set():
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)
