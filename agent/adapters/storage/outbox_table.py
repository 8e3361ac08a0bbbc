"""The journal's outbox: messages that wait to be sent, or were sent recently."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from agent.adapters.storage.database import Database
from agent.core.control.journal import (
    Evicted,
    MessageClass,
    OutboxCounts,
    OutboxLimits,
    Outgoing,
    Row,
)

_KEPT = ("event", "result", "report")  # streams that `resend` can repeat
_HIGHEST = 2**63 - 1
OUTBOX_SCHEMA = """
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('', 0);
CREATE TABLE outbox (
    key INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, body BLOB NOT NULL,
    klass TEXT NOT NULL, stream TEXT NOT NULL, number INTEGER NOT NULL, qos INTEGER NOT NULL,
    retain INTEGER NOT NULL, expiry_s INTEGER NOT NULL, made_s REAL NOT NULL, sent_s REAL,
    parked TEXT NOT NULL DEFAULT '');
"""
# Literal, as in the query: SQLite uses a partial index only where it finds its terms again.
BIRTHS_FIRST = """
CREATE INDEX births ON outbox (key) WHERE stream IN ('state', 'meta') AND sent_s IS NULL;
"""
NOTES = "CREATE TABLE notes (name TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;"
_PENDING = {
    births: "SELECT key, topic, body, klass, stream, number, qos, retain, expiry_s, made_s"  # noqa: S608
    f" FROM outbox WHERE key > ? AND sent_s IS NULL AND parked = ''{which} ORDER BY key LIMIT ?"
    for births, which in (
        (None, ""),
        (True, " AND stream IN ('state', 'meta')"),
        (False, " AND stream NOT IN ('state', 'meta')"),
    )
}
# The newest message of a retained topic must be the last one that is sent.
_RESENT = (
    " FROM outbox WHERE key <= ? AND stream = ? AND number >= ? AND ("
    "(number <= ? AND (sent_s IS NOT NULL OR parked != ''))"
    " OR (retain AND parked = '' AND (sent_s IS NULL OR number = (SELECT MAX(number)"
    " FROM outbox AS others WHERE others.topic = outbox.topic AND others.parked = ''))))"
)


class OutboxTable:
    """The journal's counters and outbox. See `ports.Journal`.

    Args:
        db: The open database.
        limits: How much may wait to be sent.
        now: Wall clock, s since 1970.
    """

    def __init__(self, db: Database, limits: OutboxLimits, now: Callable[[], float]) -> None:
        self._db = db
        self._limits = limits
        self._now = now

    def next(self, name: str) -> int:
        """See `ports.Journal`."""
        with self._db.atomic():
            if not self._db.write("UPDATE counters SET value = value + 1 WHERE name = ?", (name,)):
                self._db.write(
                    "INSERT INTO counters SELECT ?, value + 1 FROM counters WHERE name = ''",
                    (name,),
                )
            return self.last(name)

    def last(self, name: str) -> int:
        """See `ports.Journal`."""
        return self._db.number("SELECT value FROM counters WHERE name = ?", (name,))

    def recall(self, name: str) -> str:
        """See `ports.Journal`."""
        found = self._db.read("SELECT text FROM notes WHERE name = ?", (name,))
        return str(found[0][0]) if found else ""

    def remember(self, name: str, text: str) -> None:
        """See `ports.Journal`."""
        if text:
            self._db.write("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, text))
        else:
            self._db.write("DELETE FROM notes WHERE name = ?", (name,))

    def append(self, message: Outgoing) -> int:
        """See `ports.Journal`."""
        with self._db.atomic():
            if message.replaces:
                self._db.write(
                    "DELETE FROM outbox WHERE topic = ? AND sent_s IS NULL AND parked = ''",
                    (message.topic,),
                )
            return self._db.insert(
                "INSERT INTO outbox (topic, body, klass, stream, number, qos, retain, expiry_s,"
                " made_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    message.topic,
                    message.body,
                    message.message_class.value,
                    message.stream,
                    message.number,
                    message.qos,
                    message.retain,
                    message.expiry_s,
                    self._now(),
                ),
            )

    def pending(self, after: int, count: int, *, births: bool | None = None) -> Sequence[Row]:
        """See `ports.Journal`."""
        now = self._now()
        found = self._db.read(_PENDING[births], (after, count))
        return tuple(
            Row(
                row[0],
                Outgoing(
                    topic=row[1],
                    body=row[2],
                    message_class=MessageClass(row[3]),
                    stream=row[4],
                    number=row[5],
                    qos=row[6],
                    retain=bool(row[7]),
                    expiry_s=row[8],
                ),
                max(0.0, now - row[9]),
            )
            for row in found
        )

    def delivered(self, keys: Sequence[int]) -> None:
        """See `ports.Journal`."""
        marks = ", ".join("?" * len(keys))
        kept = ", ".join(f"'{stream}'" for stream in _KEPT)
        with self._db.relaxed():  # what a power cut undoes is only sent again
            self._db.write(
                f"DELETE FROM outbox WHERE key IN ({marks}) AND stream NOT IN ({kept})",  # noqa: S608
                tuple(keys),
            )
            self._db.write(
                f"UPDATE outbox SET sent_s = ?, parked = '' WHERE key IN ({marks})",  # noqa: S608
                (self._now(), *keys),
            )

    def park(self, key: int, reason: str) -> None:
        """See `ports.Journal`."""
        with self._db.atomic():
            self._db.write("UPDATE outbox SET parked = ? WHERE key = ?", (reason, key))

    def resend(self, streams: Sequence[str], first: int, last: int | None = None) -> int:
        """See `ports.Journal`."""
        columns = "topic, body, klass, stream, number, qos, retain, expiry_s, made_s"
        highest = _HIGHEST if last is None else last
        with self._db.atomic():
            top = self._db.number("SELECT MAX(key) FROM outbox")
            queued = 0
            for stream in streams:
                values = (top, stream, first, highest)
                queued += self._db.write(
                    f"INSERT INTO outbox ({columns}) SELECT {columns}{_RESENT} ORDER BY number",
                    values,
                )
                self._db.write(f"DELETE{_RESENT}", values)
            return queued

    def evict(self) -> Sequence[Evicted]:
        """See `ports.Journal`."""
        now, limits = self._now(), self._limits
        with self._db.atomic():
            doomed = self._db.read(
                "SELECT key, stream, klass, number FROM outbox"
                " WHERE sent_s IS NULL AND expiry_s > 0 AND made_s + expiry_s < ?",
                (now,),
            )
            self._delete(doomed)
            self._trim()
            excess = self._db.number("SELECT SUM(length(body)) FROM outbox WHERE sent_s IS NULL")
            excess -= limits.total_bytes
            spare = limits.most_bytes - limits.total_bytes
            for message_class in MessageClass:
                if excess <= 0:
                    break
                found = self._db.read(
                    "SELECT key, stream, klass, number, length(body), made_s FROM outbox"
                    " WHERE sent_s IS NULL AND klass = ? ORDER BY key",
                    (message_class.value,),
                )
                kept = {MessageClass.RESULT, MessageClass.REPORT}
                for row in found:
                    if excess <= 0:
                        break
                    if message_class in kept and excess <= spare and now - row[5] < limits.keep_s:
                        break
                    excess -= row[4]
                    self._delete([row[:4]])
                    doomed.append(row[:4])
            lost = _summary(doomed)
            if lost:
                self._add("evicted", sum(one.count for one in lost))
        return lost

    def counts(self) -> OutboxCounts:
        """See `ports.Journal`."""
        with self._db.atomic():
            waiting, size, oldest = self._db.read(
                "SELECT COUNT(*), SUM(length(body)), MIN(made_s) FROM outbox"
                " WHERE sent_s IS NULL AND parked = ''"
            )[0]
            return OutboxCounts(
                waiting=waiting,
                waiting_bytes=size or 0,
                oldest_s=max(0.0, self._now() - oldest) if oldest is not None else 0.0,
                parked=self._db.number("SELECT COUNT(*) FROM outbox WHERE parked != ''"),
                evicted=self.last("evicted"),
            )

    def _add(self, name: str, count: int) -> int:
        self._db.write(
            "INSERT INTO counters VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (name, count),
        )
        return self.last(name)

    def _delete(self, rows: Sequence[tuple[Any, ...]]) -> None:
        for row in rows:
            self._db.write("DELETE FROM outbox WHERE key = ?", (row[0],))

    def _trim(self) -> None:
        """Remove the oldest sent messages beyond the size kept for `resend`."""
        self._db.write(
            "DELETE FROM outbox WHERE key IN (SELECT key FROM (SELECT key,"
            " SUM(length(body)) OVER (ORDER BY key DESC) AS size FROM outbox"
            " WHERE sent_s IS NOT NULL) WHERE size > ?)",
            (self._limits.sent_bytes,),
        )


def _summary(rows: Sequence[tuple[Any, ...]]) -> tuple[Evicted, ...]:
    """Return one line per stream and class of the rows (key, stream, class, number)."""
    found: dict[tuple[str, str], list[int]] = {}
    for _, stream, message_class, number in rows:
        found.setdefault((stream, message_class), []).append(number)
    return tuple(
        Evicted(stream, message_class, len(numbers), min(numbers), max(numbers))
        for (stream, message_class), numbers in found.items()
    )
