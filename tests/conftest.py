"""What holds for every test."""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

# Time never decides a test: machines that run it are shared and slow by turns.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The fast set looks at a few examples of each property; tests/run_all asks for the others.
settings.register_profile("quick", _UNTIMED, max_examples=15)
settings.register_profile("thorough", _UNTIMED, max_examples=100)
settings.load_profile("quick")
_ROOT = Path(__file__).parents[1]


_UNWINDING_S = 10.0  # for each wait on the way out of a test that took too long


class TogetherByFixture(LoadScopeScheduling):
    """Spread single tests over the workers, and whole files where a fixture is the file's."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", maxsplit=1)[0]
        return file if _shares(file) else nodeid


@functools.cache
def _shares(file: str) -> bool:
    return 'scope="module"' in (_ROOT / file).read_text("utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Return what spreads the tests over the workers, whatever --dist says."""
    return TogetherByFixture(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no worker is left with it in the end."""

    def late(item: pytest.Item) -> tuple[bool, bool]:
        return not item.get_closest_marker("slow"), not _shares(item.nodeid.split("::")[0])

    items.sort(key=late)


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
    told = signal.getsignal(signal.SIGALRM)

    def tell(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, _UNWINDING_S)
        try:
            told(number, frame)  # with all stacks
            return  # there is a debugger
        except pytest.fail.Exception as e:
            why = str(e)
        raise TimedOut(why)

    if callable(told):
        signal.signal(signal.SIGALRM, tell)
    return result
