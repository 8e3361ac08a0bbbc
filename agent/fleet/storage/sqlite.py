"""The store of the fleet in one SQLite file: enough for ten thousand devices."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.core.errors import StoreError
from agent.core.fleet.devices import Worker
from agent.core.fleet.messages import Quarantined, Received
from agent.fleet.storage.plan import Row, plan
from agent.fleet.storage.reading import Queries
from agent.fleet.storage.schema import STEPS, for_sqlite
from agent.fleet.storage.writing import refuse, report_worker, retire_worker, store

_LOG = logging.getLogger(__name__)
_BUSY_S = 5.0
_REFUSED = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, OverflowError)
_HINTS = {
    "disk_full": "free some space",
    "busy": "another process is writing to the database; it is tried again",
    "damaged": "restore a backup, or move the file away: devices resend what they keep",
    "store": "check the permissions of the file and its folder",
}


class SqliteFleetStore(Queries):
    """Implements `ports.FleetStore`: WAL, each commit synced to the disk, readers beside the writer.

    Args:
        path: The file; it is created.

    Raises:
        StoreError: if it can't be opened, or a newer version wrote it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._numbers: dict[str, int] = {}
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

    def write(self, messages: Sequence[Received], quarantined: Sequence[Quarantined]) -> int:
        """See `ports.FleetStore`."""
        now_ms = time.time_ns() // 1_000_000
        unknown = {one.device for one in messages if one.device not in self._numbers}
        with self._transaction() as db:
            added = self._register(db, unknown, now_ms)
            numbers = {**self._numbers, **added} if added else self._numbers
            new = store(db, plan(messages, numbers), now_ms) if messages else 0
            if quarantined:
                refuse(db, quarantined, numbers)
        self._numbers = numbers
        return new

    def tidy(self, now_ms: int) -> None:
        """See `ports.FleetStore`."""

    def report_worker(self, worker: Worker) -> None:
        """See `ports.FleetStore`."""
        with self._transaction() as db:
            report_worker(db, worker)

    def retire_worker(self, name: str, *, retired: bool) -> None:
        """See `ports.FleetStore`."""
        with self._transaction() as db:
            retire_worker(db, name, retired=retired)

    def _read(self, sql: str, values: Row = ()) -> list[tuple[Any, ...]]:
        with self._reading, self._errors():
            return self._reader.execute(sql, values).fetchall()

    def _register(self, db: _Transaction, names: Iterable[str], now_ms: int) -> dict[str, int]:
        """Return the numbers of devices, after adding those that are new."""
        found = {}
        for name in sorted(names):
            sql = "INSERT INTO device (name, first_ms) VALUES (?, ?) ON CONFLICT (name) DO NOTHING"
            db.change(sql, (name, now_ms))
            found[name] = db.rows("SELECT id FROM device WHERE name = ?", (name,))[0][0]
        return found

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

    def add(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> int:
        marks = ", ".join("?" * len(columns))
        sql = (
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
            " ON CONFLICT (dev, id) DO NOTHING"
        )
        return self._db.executemany(sql, rows).rowcount
