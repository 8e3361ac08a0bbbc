"""The storage of a configuration: artifact store, releases, journal, ids of runs."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config
from agent.disk import close_to_others, disk_errors, make_folder

if TYPE_CHECKING:
    from agent.adapters.storage.journal import SqliteJournal
    from agent.adapters.storage.releases import FileReleases
    from agent.adapters.storage.store import FileStore


def store(config: Config) -> FileStore:
    """Return the artifact store of this configuration."""
    from agent.adapters.storage.store import FileStore

    return FileStore(config.storage.dir)


def releases(config: Config) -> FileReleases:
    """Return the releases of this configuration."""
    from agent.adapters.storage.releases import FileReleases

    return FileReleases(config.storage.dir)


def journal(config: Config) -> SqliteJournal:
    """Return the database of runs, outbox and inbox."""
    from agent.adapters.storage.journal import SqliteJournal

    folder = Path(config.storage.dir)
    with disk_errors(folder.parent):
        make_folder(folder)
    return SqliteJournal(str(folder / "state.db"))


def protect(config: Config) -> None:
    """Close frames and reports that an earlier version stored to other users."""
    for name in ("runs", "artifacts"):
        close_to_others(Path(config.storage.dir, name))


class RunIds:
    """Makes ids of runs and of their releases, such as `20261123T101500123-3f9a`.

    An id is the UTC time to the millisecond and a random suffix. Ids must sort by age: the newest
    is found, rolled back to and removed by it. Where the clock is behind the newest run or release
    (a Jetson without a clock battery starts in the past), the new id is 1 ms after that one.

    Args:
        config: Its storage.dir contains the runs and releases.
        now: Returns the UTC time.
    """

    def __init__(
        self,
        config: Config,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._folders = [Path(config.storage.dir, name) for name in ("runs", "releases")]
        self._now = now
        self._last = ""

    def next(self) -> str:
        """Return a new id."""
        here = [path.name for folder in self._folders for path in folder.glob("*")]
        known = [moment for name in (self._last, *here) if (moment := made(name))]
        moment = max([self._now(), *(one + timedelta(milliseconds=1) for one in known)])
        self._last = (
            f"{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03d}-{secrets.token_hex(2)}"
        )
        return self._last


def made(run_id: str) -> datetime | None:
    """Return the UTC time in the id of a run or release, None if the name is not one."""
    try:
        moment = datetime.strptime(run_id.partition("-")[0], "%Y%m%dT%H%M%S%f")
    except ValueError:
        return None
    return moment.replace(tzinfo=timezone.utc)
