"""When runs begin by themselves: the cron expressions of [schedule].

Cron has whole minutes of local time. What fell due while the daemon was down is not made up
for; nor is what a jump of the clock leaps over (a device without a battery starts in 1970).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from cronsim import CronSim

_JUMP = timedelta(hours=1)
_MINUTE = timedelta(minutes=1)


class Calendar:
    """Finds when a scheduled run is due.

    Args:
        reoptimize: Cron expression of the runs; "" for none.
        window: Cron expression of the minutes in which one may begin; "" for any.
        now: Local time, naive.
    """

    def __init__(self, reoptimize: str, window: str, now: Callable[[], datetime]) -> None:
        self._reoptimize = reoptimize
        self._window = window
        self._now = now
        self._seen = now()
        self._next = self._after(self._seen)
        self._waiting = False

    def due(self) -> bool:
        """Return True once for each scheduled run; in the window, or when it opens."""
        if self._next is None:
            return False
        now = self._now()
        if abs(now - self._seen) > _JUMP:
            self._next = self._after(now)
        self._seen = now
        if self._next is not None and now >= self._next:
            self._next = self._after(now)
            self._waiting = True
        if self._waiting and self._open(now):
            self._waiting = False
            return True
        return False

    def _after(self, now: datetime) -> datetime | None:
        return next(CronSim(self._reoptimize, now), None) if self._reoptimize else None

    def _open(self, now: datetime) -> bool:
        minute = now.replace(second=0, microsecond=0)
        return not self._window or next(CronSim(self._window, minute - _MINUTE), None) == minute
