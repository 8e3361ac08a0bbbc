"""Where state lies: the store, the releases and the journal of a configuration."""

from __future__ import annotations

import secrets
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config

if TYPE_CHECKING:
    from agent.adapters.journal_sqlite import SqliteJournal
    from agent.adapters.releases_files import FileReleases
    from agent.adapters.store_files import FileStore


def store(config: Config) -> FileStore:
    """Return the artifact store of this configuration."""
    from agent.adapters.store_files import FileStore

    return FileStore(config.storage.dir)


def releases(config: Config) -> FileReleases:
    """Return the releases of this configuration."""
    from agent.adapters.releases_files import FileReleases

    return FileReleases(config.storage.dir)


def journal(config: Config) -> SqliteJournal:
    """Return the database of runs, outbox and inbox."""
    from agent.adapters.journal_sqlite import SqliteJournal

    Path(config.storage.dir).mkdir(parents=True, exist_ok=True)
    return SqliteJournal(str(Path(config.storage.dir, "state.db")))


def new_id() -> str:
    """Return the id of a run, and of the release it may make, such as `20261123T101500123-3f9a`.

    UTC time to the millisecond, then chance: ids sort by the time they were made.
    """
    now = datetime.now(timezone.utc)
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}-{secrets.token_hex(2)}"
