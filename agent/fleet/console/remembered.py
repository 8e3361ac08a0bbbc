"""Answers of the store that many visitors ask for, kept for a moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

ValueT = TypeVar("ValueT")
_MOST = 256  # answers


class Remembered:
    """Answers by key; while one visitor waits for the store, the others wait for that answer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._found: dict[Hashable, tuple[float, Any]] = {}
        self._asking: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, age_s: float, ask: Callable[[], ValueT]) -> ValueT:
        """Return the answer, asked for again if it is older than that."""
        with self._lock:
            asking = self._asking.setdefault(key, threading.Lock())
        with asking:
            at_s, value = self._found.get(key, (0.0, None))
            if key not in self._found or self._clock() - at_s > age_s:
                value = ask()
                with self._lock:
                    if len(self._found) >= _MOST:
                        self._found.clear()
                        self._asking.clear()
                    self._found[key] = (self._clock(), value)
            found: ValueT = value
            return found
