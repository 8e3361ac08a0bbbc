"""Rules for every test."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests.support.timeouts import pytest_timeout_set_timer  # noqa: F401

# Time never decides a test: machines that run it are shared and slow by turns.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The fast set looks at a few examples of each property; tests/run_all asks for the others.
settings.register_profile("quick", _UNTIMED, max_examples=15)
settings.register_profile("thorough", _UNTIMED, max_examples=100)
settings.load_profile("quick")
_ROOT = Path(__file__).parents[1]


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
    """Return the scheduler of tests over the workers, whatever --dist is."""
    return TogetherByFixture(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no worker is left with it in the end."""

    def late(item: pytest.Item) -> tuple[bool, bool]:
        return not item.get_closest_marker("slow"), not _shares(item.nodeid.split("::")[0])

    items.sort(key=late)
