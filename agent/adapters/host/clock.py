"""The machine's clocks."""

from __future__ import annotations

import ctypes
import time
from datetime import datetime, timezone
from pathlib import Path

from agent.disk import text_of

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized
_SYNCHRONIZED_NS = 1_000_000_000
_TIMEX_BYTES = 512  # struct timex is 208 on 64-bit Linux; zeros ask without changing anything


class SystemClock:
    """The monotonic clock for durations, the wall clock for reports only."""

    def __init__(self) -> None:
        self._synchronized = False
        self._asked_ns = -_SYNCHRONIZED_NS

    def monotonic_ns(self) -> int:
        """Return CLOCK_MONOTONIC, ns."""
        return time.monotonic_ns()

    def utc(self) -> str:
        """See `ports.Clock`."""
        return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def sleep(self, seconds: float) -> None:
        """See `ports.Clock`."""
        time.sleep(seconds)

    def synchronized(self) -> bool:
        """Return whether the wall clock is synchronised to a reference, as the kernel reports.

        A Jetson without a clock battery starts in the past and stays there without NTP. Asked
        once a second at most: every message and every command needs it.
        """
        now_ns = self.monotonic_ns()
        if now_ns - self._asked_ns >= _SYNCHRONIZED_NS:
            self._asked_ns, self._synchronized = now_ns, self._ask_kernel()
        return self._synchronized

    def _ask_kernel(self) -> bool:
        if Path("/run/systemd/timesync/synchronized").exists():
            return True
        try:
            state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
        except (OSError, AttributeError):  # not Linux
            return False
        return 0 <= state < _TIME_ERROR  # below 0: the sandbox forbids the call


def boot_id() -> str:
    """Return the kernel's id of this boot; without one, an id from the time of boot."""
    known = text_of(Path("/proc/sys/kernel/random/boot_id"))
    return known or f"boot-{int(time.time() - time.monotonic())}"
