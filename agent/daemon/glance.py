"""A look at the machine that the daemon waits for only so long: a tool of the board may hang."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Glance(Generic[Value]):
    """Looks in a thread of its own; what is not seen in time is told the next time.

    Args:
        look: Does the looking, and may hang.
        patience_s: How long to wait for it.
    """

    def __init__(self, look: Callable[[], Mapping[str, Value]], patience_s: float) -> None:
        self._look = look
        self._patience_s = patience_s
        self._seen: Mapping[str, Value] = {}
        self._thread: threading.Thread | None = None

    def __call__(self) -> Mapping[str, Value]:
        """Return what is seen now; what was seen last, if anything, where that takes too long."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="glance", daemon=True)
            self._thread.start()
        self._thread.join(self._patience_s)
        return self._seen

    def _run(self) -> None:
        self._seen = self._look()
