"""The machine's clocks."""

from __future__ import annotations

import ctypes
import time
from datetime import datetime, timezone
from pathlib import Path

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized
_TIMEX_BYTES = 512  # struct timex is 208 on 64-bit Linux; zeros ask without changing anything


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

    def synchronized(self) -> bool:
        """Return whether the kernel says that the wall clock follows a reference.

        A Jetson without a clock battery starts in the past and stays there without NTP.
        """
        if Path("/run/systemd/timesync/synchronized").exists():
            return True
        try:
            state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
        except (OSError, AttributeError):  # not Linux
            return False
        return 0 <= state < _TIME_ERROR  # below 0: the sandbox forbids the question


def boot_id() -> str:
    """Return the kernel's id of this boot; without one, the moment of boot stands for it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"boot-{int(time.time() - time.monotonic())}"
