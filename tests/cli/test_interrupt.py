"""Ctrl-C cancels what runs, then ends the verb; a second one doesn't wait."""

from __future__ import annotations

import signal
import threading

import pytest

from agent.core.errors import JobError
from agent.verbs.interrupt import interruptible


def test_the_first_cancels_and_the_end_of_the_job_interrupts():
    before = signal.getsignal(signal.SIGINT)  # ignored, where a shell began this in the background
    cancelled = threading.Event()

    def run():
        with interruptible(cancelled):
            signal.raise_signal(signal.SIGINT)
            assert cancelled.is_set()
            raise JobError("capture: canceled", code="canceled")

    with pytest.raises(KeyboardInterrupt):
        run()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_does_not_wait():
    reached = []

    def run():
        with interruptible(threading.Event()):
            signal.raise_signal(signal.SIGINT)
            reached.append("here")
            signal.raise_signal(signal.SIGINT)
            reached.append("not here")

    with pytest.raises(KeyboardInterrupt):
        run()
    assert reached == ["here"]


def test_other_failures_stay_what_they_are():
    cancelled = threading.Event()
    with pytest.raises(JobError), interruptible(cancelled):
        raise JobError("capture: died", code="died")
    assert not cancelled.is_set()
