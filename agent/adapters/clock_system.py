"""The machine's clocks."""

from __future__ import annotations

import time
from datetime import datetime, timezone


class SystemClock:
    """The monotonic clock for durations, the wall clock for reports only."""

    def monotonic_ns(self) -> int:
        """Return CLOCK_MONOTONIC, ns."""
        return time.monotonic_ns()

    def utc(self) -> str:
        """Return the wall clock as RFC 3339 in UTC with milliseconds."""
        return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)
