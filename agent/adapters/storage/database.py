"""One SQLite file: WAL, each commit synced to the disk, errors with hints.

A damaged file is renamed and a new one created; `recreated_from` is the path of the old one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.core.errors import StoreError
from agent.disk import PRIVATE, has_room

_LOG = logging.getLogger(__name__)
_BUSY_MS = 5000
_CACHE_KIB = 256  # of the pages last used; the default of 2 MB is a twentieth of the idle daemon
_HINTS = {
    "disk_full": "free some space, or lower storage.max_mb",
    "busy": "another quantd process is using the database; try again",
    "read_only": "make the file and its file system writable; one with errors is often read-only",
    "damaged": "restart quantd: it renames the file and creates a new one",
    "store": "check the permissions: only the user that runs quantd can open it (`sudo -u quantd ...`)",
}
_ROOM_BYTES = 128 * 1024  # SQLite's files beside the database need 32 KB before the first read

Values = tuple[object, ...]


class Database:
    """A file with tables. Any thread may use it; one `atomic` block at a time.

    Args:
        path: The file, or ":memory:".
        steps: SQL that upgrades the schema by one version each, beginning with an empty file;
            user_version counts the steps that a file has had.

    Attributes:
        recreated_from: New path of a damaged file, empty if none was.

    Raises:
        StoreError: if the file can't be opened, or was written by a newer version.
    """

    def __init__(self, path: str, steps: Sequence[str]) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._depth = 0
        self.recreated_from = ""
        with self._errors():
            try:
                self._db = self._open(steps)
            except sqlite3.DatabaseError as error:
                if type(error) is not sqlite3.DatabaseError:  # locked, not permitted, disk full
                    raise
                self.recreated_from = self._set_aside()
                _LOG.warning(
                    "database_damaged path=%s kept=%s: %s", path, self.recreated_from, error
                )
                self._db = self._open(steps)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def atomic(self) -> Database:
        """Run the block as one transaction; blocks may be nested.

        A generator would take several times as long, and each message has a dozen blocks.
        """
        return self

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            if self._depth == 0:
                self._execute("BEGIN IMMEDIATE")
        except BaseException:
            self._lock.release()
            raise
        self._depth += 1

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._depth -= 1
        try:
            if self._depth == 0:
                self._end(failed=error is not None)
            if isinstance(error, (sqlite3.Error, OSError)):
                with self._errors():
                    raise error
        finally:
            self._lock.release()

    def _end(self, *, failed: bool) -> None:
        try:
            if not failed:
                self._execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._execute("ROLLBACK")

    @contextlib.contextmanager
    def relaxed(self) -> Iterator[None]:
        """Run the block as one transaction that a power cut may undo, a killed process can't.

        The commit doesn't wait for the disk. Within `atomic` it is part of that transaction.
        """
        with self._lock, self._errors():
            outermost = self._depth == 0
            if outermost:
                self._db.execute("PRAGMA synchronous = NORMAL")
            try:
                with self.atomic():
                    yield
            finally:
                if outermost:
                    self._db.execute("PRAGMA synchronous = FULL")

    def read(self, sql: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise self._store_error(error) from error

    def number(self, sql: str, values: Values = ()) -> int:
        """Return the number that a query selects; 0 if there is none."""
        found = self.read(sql, values)
        return int(found[0][0] or 0) if found else 0

    def write(self, sql: str, values: Values = ()) -> int:
        """Change rows and return how many; outside `atomic` in its own transaction."""
        return self._execute(sql, values).rowcount

    def insert(self, sql: str, values: Values) -> int:
        """Insert one row and return its key."""
        return int(self._execute(sql, values).lastrowid or 0)

    def _execute(self, sql: str, values: Values = ()) -> sqlite3.Cursor:
        with self._lock:
            try:
                return self._db.execute(sql, values)
            except sqlite3.Error as error:
                raise self._store_error(error) from error

    def _close_to_others(self) -> None:
        """Give file, WAL and index the mode 0600; SQLite makes the two with the mode of the file.

        The file is not opened: closing it would end the locks of this process's other connections.
        """
        for suffix in ("", "-wal", "-shm"):
            path = Path(self._path + suffix)
            with contextlib.suppress(FileNotFoundError, PermissionError):
                if path.stat().st_mode & 0o077:
                    path.chmod(PRIVATE)
        with contextlib.suppress(OSError):  # it is there, or SQLite has the better message
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE))

    def _open(self, steps: Sequence[str]) -> sqlite3.Connection:
        if self._path != ":memory:":
            self._close_to_others()
        # isolation_level None: `atomic` begins transactions. One lock makes threads safe.
        db = sqlite3.connect(
            self._path, timeout=_BUSY_MS / 1e3, isolation_level=None, check_same_thread=False
        )
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")  # a commit that returned is on the disk
            db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("quick_check failed")
            found = db.execute("PRAGMA user_version").fetchone()[0]
            if found > len(steps):
                raise StoreError(
                    f"{self._path} has format {found}, this quantd knows {len(steps)}",
                    hint="a newer quantd wrote it: install that, or move the file away",
                )
            if found < len(steps):
                missing = " ".join(steps[found:])
                db.executescript(f"BEGIN; {missing} PRAGMA user_version = {len(steps)}; COMMIT;")
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self) -> str:
        """Rename the file with its WAL, remove earlier renamed ones; return the new path."""
        for earlier in Path(self._path).parent.glob(f"{Path(self._path).name}.damaged-*"):
            earlier.unlink()  # a failing disk damages many
        kept = f"{self._path}.damaged-{time.time_ns() // 1_000_000_000}"
        for suffix in ("", "-wal", "-shm"):
            old = Path(self._path + suffix)
            if old.exists():
                shutil.move(old, kept + suffix)
        return kept

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._store_error(error) from error
        except OSError as error:
            raise StoreError(f"{self._path}: {error}", hint=_HINTS["store"]) from error

    def _store_error(self, error: sqlite3.Error) -> StoreError:
        code = self._code(error)
        return StoreError(f"{self._path}: {error}", code=code, hint=_HINTS[code])

    def _code(self, error: sqlite3.Error) -> str:
        text = str(error)  # sqlite_errorcode exists from Python 3.11 on only
        if "full" in text:
            return "disk_full"
        if "locked" in text or "busy" in text:
            return "busy"
        if type(error) is sqlite3.DatabaseError:
            return "damaged"
        # Opening a file on a full disk is a "disk I/O error".
        if has_room(Path(self._path).parent, _ROOM_BYTES):
            return "read_only" if "readonly" in text else "store"
        return "disk_full"
