"""Work in the foreground: one process at a time, and ended cleanly by Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from agent.config import Config
from agent.core.errors import JobError
from agent.terminal import show
from agent.verbs.locating import note_state
from agent.wiring.exclusive import exclusive


@contextmanager
def in_turn(
    config: Config, options: argparse.Namespace, run_id: str = ""
) -> Iterator[threading.Event]:
    """Be the only process that measures or switches; yield the event that Ctrl-C sets.

    Args:
        config: The effective configuration.
        options: Of the verb: `no_wait` raises instead of waiting.
        run_id: The run, for processes that wait.
    """
    cancelled, stopping = threading.Event(), threading.Event()
    with (
        interruptible(cancelled),
        exclusive(
            config,
            f"quantd {options.name}",
            run_id=run_id,
            cancelled=cancelled,
            stopping=stopping,
            waiting=lambda holder: show(f"waiting for {holder}"),
            wait=not options.no_wait,
        ),
    ):
        note_state(options)
        yield cancelled


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
