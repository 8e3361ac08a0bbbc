"""What holds for every test."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import FrameType

import pytest
from hypothesis import HealthCheck, settings

# Time never decides a test: machines that run it are shared and slow by turns.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The fast set looks at a few examples of each property; tests/run_all asks for the others.
settings.register_profile("quick", _UNTIMED, max_examples=15)
settings.register_profile("thorough", _UNTIMED, max_examples=100)
settings.load_profile("quick")


class TimedOut(BaseException):
    """A test took too long."""


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer() -> Iterator[None]:
    """Let the end of a test's time be no failure of an example.

    Hypothesis takes pytest's own exception for one: it runs the example again, and makes it
    smaller, with no timer left. An example that never ends would then end nothing.
    """
    result = yield
    told = signal.getsignal(signal.SIGALRM)

    def tell(number: int, frame: FrameType | None) -> None:
        try:
            told(number, frame)  # with all stacks
        except pytest.fail.Exception as e:
            raise TimedOut(e.msg) from None

    if callable(told):
        signal.signal(signal.SIGALRM, tell)
    return result
