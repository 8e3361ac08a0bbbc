"""The console's own SQLite file: users, sessions, audit log, commands."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.core.errors import StoreError


class Database:
    """A connection to the file, readable by its owner alone; safe to use from several threads.

    Args:
        file: It is created.
        schema: Statements that create what is missing.
    """

    def __init__(self, file: Path, schema: str) -> None:
        self._file = file
        self._lock = threading.Lock()
        try:
            file.touch(mode=0o600)
            file.chmod(0o600)
            self._db = sqlite3.connect(file, check_same_thread=False, timeout=10)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = full")
            self._db.executescript(schema)
        except (OSError, sqlite3.Error) as e:
            raise StoreError(f"{file}: {e}", hint="choose another file with --accounts") from e

    def close(self) -> None:
        """Close it."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit at the end of the block, on the disk; roll back if it raises."""
        with self._lock:
            try:
                with self._db:
                    yield self._db
            except sqlite3.Error as e:
                raise StoreError(f"{self._file}: {e}") from e
