"""The store of the fleet in one SQLite file: enough for ten thousand devices."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.core.errors import StoreError
from agent.fleet.storage.database import FleetDatabase
from agent.fleet.storage.plan import Row
from agent.fleet.storage.schema import STEPS, for_sqlite

_CACHE_KIB = 16 * 1024
_WAL_PAGES = 8000
_DELETED = 2000  # rows in one transaction
_BUSY_S = 5.0
_REFUSED = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, OverflowError)
_HINTS = {
    "disk_full": "free some space",
    "busy": "another process is writing to the database; it is tried again",
    "damaged": "restore a backup, or move the file away: devices resend what they keep",
    "store": "check the permissions of the file and its folder",
}


class SqliteFleetStore(FleetDatabase):
    """Implements `ports.FleetStore`: WAL, each commit synced to the disk, readers beside the writer.

    Args:
        path: The file; it is created.

    Raises:
        StoreError: if it can't be opened, or a newer version wrote it.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._writing, self._reading = threading.Lock(), threading.Lock()
        with self._errors():
            self._db = self._open()
            self._migrate()
            self._reader = self._open()
            self._reader.execute("PRAGMA query_only = 1")

    def close(self) -> None:
        """See `ports.FleetStore`."""
        with self._writing, self._reading:
            self._db.close()
            self._reader.close()

    def _prepare(self, now_ms: int) -> None:
        """Nothing is needed."""

    def _forget(self, table: str, before: bytes) -> None:
        """Delete some rows at a time, so that messages need not wait for long."""
        sql = f"""DELETE FROM {table} WHERE (dev, id) IN
            (SELECT dev, id FROM {table} WHERE id < ? LIMIT {_DELETED})"""
        more = True
        while more:
            with self._transaction() as db:
                more = db.change(sql, (before,)) == _DELETED

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Workers that share a file tidy in turn: what one removed, the next doesn't find."""
        yield True

    def _read(self, sql: str, values: Row = ()) -> list[tuple[Any, ...]]:
        with self._reading, self._errors():
            return self._reader.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[_Transaction]:
        with self._writing, self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield _Transaction(self._db)
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def _open(self) -> sqlite3.Connection:
        Path(self._path).touch(0o600)
        db = sqlite3.connect(
            self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # a commit that returned is on the disk
        # A batch changes one page for each of its devices: with the default of 2 MB and 1,000
        # pages it would not fit, and be copied from the WAL every third time.
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        db.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        return db

    def _migrate(self) -> None:
        """Bring the schema up to date, once: another process may begin at the same moment."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            found = db.execute("PRAGMA user_version").fetchone()[0]
            if found > len(STEPS):
                raise StoreError(
                    f"{self._path} has format {found}, this quantd knows {len(STEPS)}",
                    hint="a newer quantd wrote it: install that, or move the file away",
                )
            for step in STEPS[found:]:
                for statement in for_sqlite(step).split(";\n"):
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {len(STEPS)}")
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except _REFUSED as error:
            raise StoreError(f"{self._path}: {error}", code="refused") from error
        except sqlite3.Error as error:
            code = _code(error)
            raise StoreError(f"{self._path}: {error}", code=code, hint=_HINTS[code]) from error


def _code(error: sqlite3.Error) -> str:
    text = str(error)
    if "full" in text:
        return "disk_full"
    if "locked" in text or "busy" in text:
        return "busy"
    return "damaged" if type(error) is sqlite3.DatabaseError else "store"


class _Transaction:
    """Implements `writing.Transaction`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def rows(self, sql: str, values: Row = ()) -> list[tuple[Any, ...]]:
        return self._db.execute(sql, values).fetchall()

    def change(self, sql: str, values: Row = ()) -> int:
        return self._db.execute(sql, values).rowcount

    def change_each(self, sql: str, values: Iterable[Row]) -> None:
        self._db.executemany(sql, values)

    def lock(self, devices: Iterable[int]) -> None:
        """The transaction has the whole file."""

    def add(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> int:
        marks = ", ".join("?" * len(columns))
        sql = (
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
            " ON CONFLICT (dev, id) DO NOTHING"
        )
        return self._db.executemany(sql, rows).rowcount
