"""How many visitors have a live page open."""

from __future__ import annotations

import threading

MOST = 500


class Viewers:
    """Counts open streams, up to a limit."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Return how many there are."""
        return self._count

    def enter(self) -> bool:
        """Count one more; return False if there are too many."""
        with self._lock:
            if self._count >= MOST:
                return False
            self._count += 1
            return True

    def leave(self) -> None:
        """Count one less."""
        with self._lock:
            self._count -= 1
