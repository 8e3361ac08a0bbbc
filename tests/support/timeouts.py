"""End a test that takes too long, even if the exception would be caught."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import FrameType

import pytest

_UNWINDING_S = 10.0  # for each wait on the way out of a test that took too long


class TimedOut(BaseException):
    """A test took too long."""


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer() -> Iterator[None]:
    """Let the end of a test's time be no failure of an example, and end what holds it up.

    Hypothesis takes pytest's own exception for a failure: it runs the example again, and makes
    it smaller, with no timer left. Nor is one left for an `__exit__` that waits for a child or a
    thread, so the time is over again and again until the test is left.
    """
    result = yield
    previous = signal.getsignal(signal.SIGALRM)

    def expire(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, _UNWINDING_S)
        try:
            previous(number, frame)  # with all stacks
            return  # there is a debugger
        except pytest.fail.Exception as e:
            why = str(e)
        raise TimedOut(why)

    if callable(previous):
        signal.signal(signal.SIGALRM, expire)
    return result
