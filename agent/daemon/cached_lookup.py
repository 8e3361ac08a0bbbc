"""A lookup with a time limit: the tool of the board behind it may hang."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass
class CachedLookup(Generic[Value]):
    """Calls a function in a thread; returns its last result where it takes too long.

    Attributes:
        lookup: The function.
        timeout_s: How long a call waits for it.
    """

    lookup: Callable[[], Mapping[str, Value]]
    timeout_s: float
    _result: Mapping[str, Value] = field(default_factory=dict)
    _thread: threading.Thread | None = None

    def __call__(self) -> Mapping[str, Value]:
        """Return the result; the last one, or nothing, if it takes longer than `timeout_s`."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="lookup", daemon=True)
            self._thread.start()
        self._thread.join(self.timeout_s)
        return self._result

    def _run(self) -> None:
        self._result = self.lookup()
