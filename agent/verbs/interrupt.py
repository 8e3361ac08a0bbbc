"""Ctrl-C in the foreground: the running job is ended and cleaned up, then the verb ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from agent.core.errors import JobError


@contextmanager
def interruptible(cancelled: threading.Event) -> Iterator[None]:
    """Cancel at the first Ctrl-C, and raise KeyboardInterrupt once the running job has ended.

    A KeyboardInterrupt raised at once could be lost in a destructor or a callback. A second
    Ctrl-C raises it at once.

    Args:
        cancelled: Is set; the block then raises a JobError "canceled".
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
