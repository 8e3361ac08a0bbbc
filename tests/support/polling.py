"""Waiting for something to happen, by looking again and again."""

from __future__ import annotations

import time
from collections.abc import Callable

_LOOK_S = 0.005


def until(
    reached: Callable[[], object], timeout_s: float = 60.0, why: Callable[[], str] = lambda: ""
) -> None:
    """Wait for a condition; fail with `why` after a time that is long for any machine."""
    deadline_s = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline_s, why()
        time.sleep(_LOOK_S)
