"""The store of the fleet in PostgreSQL: for what one machine or one writer is too small for.

Rows are copied into a temporary table and inserted from there, a third of the work of inserting each.
Telemetry, events and results lie in partitions by the time of their ids, so that what is kept no
longer is dropped at once. A worker locks the devices of its batch in the order of their numbers:
two with messages of the same devices wait for each other, and never for ever.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

import psycopg

from agent.core.control.ulid import first_ulid
from agent.core.errors import StoreError
from agent.core.fleet.messages import FIGURES
from agent.fleet.storage.database import FleetDatabase
from agent.fleet.storage.plan import Row
from agent.fleet.storage.schema import DAYS, STEPS, Days, for_postgres
from agent.fleet.storage.writing import FIGURES_NEWER, SEEN, TABLES

_LOCK = 0x7175616E7464  # of schema and partitions, for pg_advisory_xact_lock: "quantd"
_TIDY_LOCK = _LOCK + 1
_AHEAD_DAYS = 2
_REFUSED = (psycopg.DataError, psycopg.IntegrityError, psycopg.NotSupportedError)
_CONNECT_S = 10
_HINTS = {
    "away": "start it, or check the address after --database; it is tried again",
    "store": "check the rights of its user: it creates tables",
}
# One statement for all devices of a batch each; one for each device would be most of its work.
_SEEN = "UPDATE device d SET seen_ms = v.seen_ms FROM new_seen v WHERE d.id = v.dev AND d.seen_ms < v.before"
_FIGURES = (
    "UPDATE device d SET figures_id = v.id, figures_at_ms = v.at_ms, figures = v.figures"
    + "".join(f", {name} = COALESCE(v.{name}, d.{name})" for name in FIGURES)
    + " FROM new_figures v WHERE d.id = v.dev AND d.figures_id < v.before"
)
_KNOWN = "".join(f", {name} DOUBLE PRECISION" for name in FIGURES)
_BULK = {SEEN: ("new_seen", _SEEN), FIGURES_NEWER: ("new_figures", _FIGURES)}
_TEMPORARY = {
    **{f"new_{table}": f"LIKE {table}" for table in TABLES},
    "new_seen": "seen_ms BIGINT, dev INTEGER, before BIGINT",
    "new_figures": f"id BYTEA, at_ms BIGINT, figures TEXT{_KNOWN}, dev INTEGER, before BYTEA",
}


class PostgresFleetStore(FleetDatabase):
    """Implements `ports.FleetStore`.

    Args:
        address: postgresql://user:password@host/database.

    Raises:
        StoreError: if it can't be reached, or a newer version made its tables.
    """

    parted = True

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address
        self._shown = re.sub(r"//[^/]*@", "//", address)  # without user and password
        self._connections: dict[str, psycopg.Connection[Any]] = {}
        self._locks = {"write": threading.Lock(), "read": threading.Lock()}
        self._partitions_until = datetime.min.replace(tzinfo=timezone.utc)
        self._migrated = self._closed = False
        try:
            with self._transaction() as db:
                self._migrate(db)
            self._migrated = True
            self._drop("write")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """See `ports.FleetStore`."""
        self._closed = True
        for name, lock in self._locks.items():
            with lock:
                self._drop(name)

    def _prepare(self, now_ms: int) -> None:
        """Make the partitions of the next days, once a day."""
        today = datetime.fromtimestamp(now_ms / 1000, timezone.utc)
        if today < self._partitions_until:
            return
        with self._transaction() as db:
            db.rows(f"SELECT pg_advisory_xact_lock({_LOCK})")
            for table, days in DAYS.items():
                for name, begin, end in _partitions(table, days, today):
                    db.change(
                        f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table}"
                        f" FOR VALUES FROM ({_bytes(begin)}) TO ({_bytes(end)})"
                    )
        self._partitions_until = today + timedelta(days=1)

    def _forget(self, table: str, before: bytes) -> None:
        """Drop the partitions of older messages."""
        sql = """SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = ?::regclass ORDER BY c.relname"""
        days = DAYS[table].span
        for (name,) in self._read(sql, (table,)):
            begin = datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=timezone.utc)
            if _first(begin + timedelta(days=days)) <= before:
                with self._transaction() as db:
                    db.change(f"DROP TABLE {name}")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Yield whether no other process tidies."""
        with self._errors(), psycopg.connect(self._address, autocommit=True) as db:
            found = db.execute("SELECT pg_try_advisory_lock(%s)", (_TIDY_LOCK,)).fetchone()
            yield bool(found and found[0])

    def _read(self, sql: str, values: Row = ()) -> list[tuple[Any, ...]]:
        with self._connected("read") as db:
            return db.execute(_marked(sql), values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[_Transaction]:
        with self._connected("write") as db, db.transaction():
            yield _Transaction(db)

    def _migrate(self, db: _Transaction) -> None:
        db.rows(f"SELECT pg_advisory_xact_lock({_LOCK})")
        db.change("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
        found = db.rows("SELECT COALESCE(MAX(version), 0) FROM schema_version")[0][0]
        if found > len(STEPS):
            raise StoreError(
                f"{self._shown} has format {found}, this quantd knows {len(STEPS)}",
                hint="a newer quantd made its tables: install that, or use another database",
            )
        for version, step in enumerate(STEPS[found:], found + 1):
            for statement in for_postgres(step).split(";\n"):
                if statement.strip():
                    db.change(statement)
            db.change("INSERT INTO schema_version VALUES (?)", (version,))

    @contextlib.contextmanager
    def _connected(self, name: str) -> Iterator[psycopg.Connection[Any]]:
        """Yield a connection; one that was lost is made again at the next call."""
        with self._locks[name], self._errors():
            if self._closed:
                raise StoreError(f"{self._shown} is closed")
            db = self._connections.get(name)
            if db is None or db.closed:
                db = psycopg.connect(self._address, autocommit=True, connect_timeout=_CONNECT_S)
                self._connections[name] = db
                if name == "write" and self._migrated:
                    for table, columns in _TEMPORARY.items():
                        db.execute(
                            f"CREATE TEMPORARY TABLE {table} ({columns}) ON COMMIT DELETE ROWS"
                        )
            try:
                yield db
            except psycopg.OperationalError:
                self._drop(name)
                raise

    def _drop(self, name: str) -> None:
        db = self._connections.pop(name, None)
        if db is not None:
            db.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except _REFUSED as error:
            raise StoreError(f"{self._shown}: {_first_line(error)}", code="refused") from error
        except psycopg.Error as error:
            code = "away" if isinstance(error, psycopg.OperationalError) else "store"
            seen = f"{self._shown}: {_first_line(error)}"
            raise StoreError(seen, code=code, hint=_HINTS[code]) from error


class _Transaction:
    """Implements `writing.Transaction`."""

    def __init__(self, db: psycopg.Connection[Any]) -> None:
        self._db = db

    def rows(self, sql: str, values: Row = ()) -> list[tuple[Any, ...]]:
        return self._db.execute(_marked(sql), values).fetchall()

    def change(self, sql: str, values: Row = ()) -> int:
        return self._db.execute(_marked(sql), values or None).rowcount

    def change_each(self, sql: str, values: Iterable[Row]) -> None:
        rows = list(values)
        if not rows:
            return
        with self._db.cursor() as cursor:
            if sql in _BULK:
                table, update = _BULK[sql]
                _copy(cursor, f"COPY {table} FROM STDIN", rows)
                cursor.execute(update)
            else:
                cursor.executemany(_marked(sql), rows)

    def lock(self, devices: Iterable[int]) -> None:
        numbers = list(devices)
        self._db.execute(
            "SELECT 1 FROM device WHERE id = ANY(%s) ORDER BY id FOR UPDATE", (numbers,)
        )

    def add(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> int:
        listed = ", ".join(columns)
        with self._db.cursor() as cursor:
            _copy(cursor, f"COPY new_{table} ({listed}) FROM STDIN", rows)
            cursor.execute(
                f"INSERT INTO {table} ({listed}) SELECT {listed} FROM new_{table}"
                " ORDER BY dev, id ON CONFLICT (dev, id) DO NOTHING"
            )
            return cursor.rowcount


def _copy(cursor: psycopg.Cursor[Any], sql: str, rows: Iterable[Row]) -> None:
    with cursor.copy(sql) as copy:
        for row in rows:
            copy.write_row(row)


@lru_cache(maxsize=200)
def _marked(sql: str) -> str:
    """Return SQL with the marks of psycopg."""
    return sql.replace("%", "%%").replace("?", "%s")


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__


def _partitions(
    table: str, days: Days, today: datetime
) -> Iterator[tuple[str, datetime, datetime]]:
    """Yield name, begin and end of the partitions that messages of now may need."""
    span = timedelta(days=days.span)
    epoch = datetime(2020, 1, 6, tzinfo=timezone.utc)  # a Monday
    first = today - timedelta(days=days.late)
    begin = epoch + (first - epoch) // span * span
    while begin <= today + timedelta(days=_AHEAD_DAYS):
        yield f"{table}_{begin:%Y%m%d}", begin, begin + span
        begin += span


def _first(begin: datetime) -> bytes:
    return first_ulid(round(begin.timestamp() * 1000))


def _bytes(begin: datetime) -> str:
    return f"'\\x{_first(begin).hex()}'"
