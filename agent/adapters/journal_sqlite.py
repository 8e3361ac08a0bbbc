"""The journal in one SQLite file: WAL, and every commit on the disk before it counts.

A damaged file is set aside and a new one begun: the daemon must start in any case, and what
was measured and activated lies elsewhere. The flag `renewed` says so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, fields
from datetime import datetime, timezone
from typing import Any

from agent.core.command import Command, Stage, may_follow
from agent.core.errors import StoreError
from agent.core.journal import (
    Answered,
    Arrival,
    Entry,
    Evicted,
    Klass,
    OutboxCounts,
    OutboxLimits,
    Outgoing,
    PastMeasurement,
    Row,
    Run,
)
from agent.database import Database

_KEPT = ("event", "result", "report")  # streams that `resend` can bring back
_DETAIL_LIMIT = 2000
_INBOX_KEPT = 10_000
_FORGET_S = 7 * 86_400.0
_MEASUREMENTS_KEPT = 2000
_MEASUREMENT = tuple(field.name for field in fields(PastMeasurement))
_LIMITS = OutboxLimits()
_VERSION = 1
_SCHEMA = """
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('', 0);
CREATE TABLE outbox (
    key INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, body BLOB NOT NULL,
    klass TEXT NOT NULL, stream TEXT NOT NULL, number INTEGER NOT NULL, qos INTEGER NOT NULL,
    retain INTEGER NOT NULL, expiry_s INTEGER NOT NULL, made_s REAL NOT NULL, sent_s REAL,
    parked TEXT NOT NULL DEFAULT '');
CREATE TABLE inbox (
    id TEXT PRIMARY KEY, sha256 TEXT NOT NULL, type TEXT NOT NULL, args TEXT NOT NULL,
    stage TEXT NOT NULL, version INTEGER NOT NULL, code TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL DEFAULT '', result TEXT NOT NULL DEFAULT '', received_s REAL NOT NULL,
    exp_s REAL);
CREATE TABLE runs (
    id TEXT PRIMARY KEY, cause TEXT NOT NULL, command_id TEXT, spec TEXT NOT NULL,
    stage TEXT NOT NULL DEFAULT '', attempts INTEGER NOT NULL DEFAULT 1,
    outcome TEXT NOT NULL DEFAULT '', started TEXT NOT NULL, updated TEXT NOT NULL);
CREATE TABLE measurements (
    model TEXT NOT NULL, precision TEXT NOT NULL, runtime TEXT NOT NULL, batch INTEGER NOT NULL,
    power_mode TEXT NOT NULL, macs INTEGER NOT NULL, latency_p50_ms REAL NOT NULL,
    energy_j REAL, predicted_ms REAL, utc TEXT NOT NULL);
"""


class SqliteJournal:
    """The journal. Any thread may call it; one call or one `atomic` block at a time.

    Args:
        path: The database file, or ":memory:".
        limits: How much may wait to be sent.
        now: Wall clock, s since 1970.

    Attributes:
        renewed: Where a damaged file was set aside, empty if none was.

    Raises:
        StoreError: if the file can't be opened, or was made by a newer version.
    """

    def __init__(
        self,
        path: str,
        limits: OutboxLimits = _LIMITS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._limits = limits
        self._now = now
        self._db = Database(path, _SCHEMA, _VERSION)
        self.renewed = self._db.renewed
        if self.renewed:  # counters go on above every number the lost file can have given out
            self._db.write("UPDATE counters SET value = ? WHERE name = ''", (int(now()),))

    def __enter__(self) -> SqliteJournal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def atomic(self) -> AbstractContextManager[None]:
        """Make everything inside one transaction; blocks may be nested."""
        return self._db.atomic()

    def next(self, name: str) -> int:
        """Count up and return a persisted counter, from 1."""
        with self.atomic():
            self._db.write(
                "INSERT OR IGNORE INTO counters SELECT ?, value FROM counters WHERE name = ''",
                (name,),
            )
            return self._add(name, 1)

    def _add(self, name: str, count: int) -> int:
        self._db.write(
            "INSERT INTO counters VALUES (?1, ?2)"
            " ON CONFLICT (name) DO UPDATE SET value = value + ?2",
            (name, count),
        )
        return self._db.number("SELECT value FROM counters WHERE name = ?", (name,))

    # Outbox -----------------------------------------------------------------------------------

    def append(self, message: Outgoing) -> int:
        """Put a message into the outbox and return its key."""
        with self.atomic():
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
                    message.klass.value,
                    message.stream,
                    message.number,
                    message.qos,
                    message.retain,
                    message.expiry_s,
                    self._now(),
                ),
            )

    def pending(self, after: int, count: int) -> Sequence[Row]:
        """Return the next messages to send, in order, with keys above `after`."""
        now = self._now()
        found = self._db.read(
            "SELECT key, topic, body, klass, stream, number, qos, retain, expiry_s, made_s"
            " FROM outbox WHERE key > ? AND sent_s IS NULL AND parked = '' ORDER BY key LIMIT ?",
            (after, count),
        )
        return tuple(
            Row(
                row[0],
                Outgoing(
                    topic=row[1],
                    body=row[2],
                    klass=Klass(row[3]),
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
        """Forget delivered messages; events, results and reports stay for `resend` a while."""
        with self.atomic():
            for key in keys:
                self._db.write(
                    "DELETE FROM outbox WHERE key = ? AND stream NOT IN (?, ?, ?)", (key, *_KEPT)
                )
                self._db.write(
                    "UPDATE outbox SET sent_s = ?, parked = '' WHERE key = ?", (self._now(), key)
                )

    def park(self, key: int, reason: str) -> None:
        """Set aside a message that the broker will never take."""
        with self.atomic():
            self._db.write("UPDATE outbox SET parked = ? WHERE key = ?", (reason, key))

    def resend(self, streams: Sequence[str], first: int) -> int:
        """Queue what was sent or parked again, behind what waits already; return how many."""
        with self.atomic():
            top = int(self._db.read("SELECT COALESCE(MAX(key), 0) FROM outbox")[0][0])
            queued = 0
            for stream in streams:
                queued += self._db.write(
                    "INSERT INTO outbox (topic, body, klass, stream, number, qos, retain,"
                    " expiry_s, made_s) SELECT topic, body, klass, stream, number, qos, retain,"
                    " expiry_s, made_s FROM outbox WHERE key <= ? AND stream = ? AND number >= ?"
                    " AND (sent_s IS NOT NULL OR parked != '') ORDER BY number",
                    (top, stream, first),
                )
                self._db.write(
                    "DELETE FROM outbox WHERE key <= ? AND stream = ? AND number >= ?"
                    " AND (sent_s IS NOT NULL OR parked != '')",
                    (top, stream, first),
                )
            return queued

    def evict(self) -> Sequence[Evicted]:
        """Give up what has expired or is too much, least valuable first, and count it."""
        now, limits = self._now(), self._limits
        with self.atomic():
            doomed = self._db.read(
                "SELECT key, stream, klass, number FROM outbox"
                " WHERE sent_s IS NULL AND expiry_s > 0 AND made_s + expiry_s < ?",
                (now,),
            )
            self._delete(doomed)
            self._trim()
            excess = self._db.number("SELECT SUM(length(body)) FROM outbox WHERE sent_s IS NULL")
            excess -= limits.total_bytes
            for klass in Klass:
                if excess <= 0:
                    break
                found = self._db.read(
                    "SELECT key, stream, klass, number, length(body), made_s FROM outbox"
                    " WHERE sent_s IS NULL AND klass = ? ORDER BY key",
                    (klass.value,),
                )
                kept = {Klass.RESULT, Klass.REPORT}
                for row in found:
                    if excess <= 0:
                        break
                    if klass in kept and now - row[5] < limits.keep_s:
                        break
                    excess -= row[4]
                    self._delete([row[:4]])
                    doomed.append(row[:4])
            if doomed:
                self._add("evicted", len(doomed))
        return _summary(doomed)

    def counts(self) -> OutboxCounts:
        """Return what waits and what was lost."""
        with self.atomic():
            waiting, size, oldest = self._db.read(
                "SELECT COUNT(*), SUM(length(body)), MIN(made_s) FROM outbox"
                " WHERE sent_s IS NULL AND parked = ''"
            )[0]
            return OutboxCounts(
                waiting=waiting,
                waiting_bytes=size or 0,
                oldest_s=max(0.0, self._now() - oldest) if oldest is not None else 0.0,
                parked=self._db.number("SELECT COUNT(*) FROM outbox WHERE parked != ''"),
                evicted=self._db.number("SELECT value FROM counters WHERE name = 'evicted'"),
            )

    def _delete(self, rows: Sequence[tuple[Any, ...]]) -> None:
        for row in rows:
            self._db.write("DELETE FROM outbox WHERE key = ?", (row[0],))

    def _trim(self) -> None:
        """Forget what was sent long ago, beyond what is kept for `resend`."""
        self._db.write(
            "DELETE FROM outbox WHERE key IN (SELECT key FROM (SELECT key,"
            " SUM(length(body)) OVER (ORDER BY key DESC) AS size FROM outbox"
            " WHERE sent_s IS NOT NULL) WHERE size > ?)",
            (self._limits.sent_bytes,),
        )

    # Inbox ------------------------------------------------------------------------------------

    def receive(self, command: Command) -> Arrival:
        """Store a command as RECEIVED unless its id is known; say which it is."""
        with self.atomic():
            known = self._db.read("SELECT sha256 FROM inbox WHERE id = ?", (command.id,))
            if known:
                same = known[0][0] == command.digest
                return Arrival.DUPLICATE if same else Arrival.CONFLICT
            self._db.write(
                "INSERT INTO inbox (id, sha256, type, args, stage, version, received_s, exp_s)"
                " VALUES (?, ?, ?, ?, ?, 0, ?, ?)",
                (
                    command.id,
                    command.digest,
                    command.type,
                    json.dumps(dict(command.args)),
                    Stage.RECEIVED.value,
                    self._now(),
                    command.exp,
                ),
            )
            # Only what has expired may be forgotten: a replay of it is refused as expired.
            self._db.write(
                "DELETE FROM inbox WHERE exp_s < ? AND rowid <= (SELECT MAX(rowid) FROM inbox) - ?",
                (self._now() - _FORGET_S, _INBOX_KEPT),
            )
            return Arrival.NEW

    def advance(self, command_id: str, answer: Answered) -> int:
        """Store a command's stage; return its version, 0 if the inbox doesn't have the id."""
        with self.atomic():
            entry = self.entry(command_id)
            if entry is None:
                return 0
            if not may_follow(entry.stage, answer.stage):
                raise StoreError(
                    f"command {command_id}: {answer.stage.value} after {entry.stage.value}",
                    code="stage",
                )
            self._db.write(
                "UPDATE inbox SET stage = ?, version = version + 1, code = ?, detail = ?,"
                " result = ? WHERE id = ?",
                (
                    answer.stage.value,
                    answer.code,
                    answer.detail[:_DETAIL_LIMIT],
                    answer.result,
                    command_id,
                ),
            )
            return entry.version + 1

    def entry(self, command_id: str) -> Entry | None:
        """Return what is known of a command."""
        found = self._entries("WHERE id = ?", (command_id,))
        return found[0] if found else None

    def unanswered(self) -> Sequence[Entry]:
        """Return the commands without a final stage, oldest first."""
        return tuple(
            entry
            for entry in self._entries("ORDER BY received_s, rowid", ())
            if not entry.stage.final
        )

    def _entries(self, clause: str, values: tuple[object, ...]) -> list[Entry]:
        names = ("command_id", "sha256", "type", "args", "stage", "version", "code", "detail")
        found = self._db.read(
            "SELECT id, sha256, type, args, stage, version, code, detail, result"  # noqa: S608
            f" FROM inbox {clause}",
            values,
        )
        return [
            Entry(**{**dict(zip((*names, "result"), row, strict=True)), "stage": Stage(row[4])})
            for row in found
        ]

    # Runs and measurements --------------------------------------------------------------------

    def begin_run(self, run_id: str, trigger: str, command_id: str | None, spec: str) -> int:
        """Store that a run begins, or begins again; return the number of attempts so far."""
        now = self._utc()
        with self.atomic():
            self._db.write(
                "INSERT INTO runs (id, cause, command_id, spec, started, updated)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                " attempts = attempts + 1, outcome = '', updated = excluded.updated",
                (run_id, trigger, command_id, spec, now, now),
            )
            return self._db.number("SELECT attempts FROM runs WHERE id = ?", (run_id,))

    def update_run(self, run_id: str, *, stage: str = "", outcome: str = "") -> None:
        """Store how far a run has come, or how it ended."""
        self._db.write(
            "UPDATE runs SET stage = CASE WHEN ?1 = '' THEN stage ELSE ?1 END,"
            " outcome = CASE WHEN ?2 = '' THEN outcome ELSE ?2 END, updated = ?3 WHERE id = ?4",
            (stage, outcome, self._utc(), run_id),
        )

    def runs(self, count: int) -> Sequence[Run]:
        """Return the newest runs, newest first."""
        return self._runs("ORDER BY rowid DESC LIMIT ?", (count,))

    def unfinished_runs(self) -> Sequence[Run]:
        """Return the runs without an outcome, oldest first."""
        return self._runs("WHERE outcome = '' ORDER BY rowid", ())

    def _runs(self, clause: str, values: tuple[object, ...]) -> tuple[Run, ...]:
        names = [field.name for field in fields(Run)]
        found = self._db.read(
            "SELECT id, cause, command_id, spec, stage, attempts, outcome, started,"  # noqa: S608
            f" updated FROM runs {clause}",
            values,
        )
        return tuple(Run(**dict(zip(names, row, strict=True))) for row in found)

    def record(self, measurement: PastMeasurement) -> None:
        """Keep a measurement for later predictions."""
        with self.atomic():
            marks = ", ".join("?" * len(_MEASUREMENT))
            self._db.write(
                f"INSERT INTO measurements ({', '.join(_MEASUREMENT)}) VALUES ({marks})",  # noqa: S608
                astuple(measurement),
            )
            self._db.write(
                "DELETE FROM measurements WHERE rowid <= (SELECT MAX(rowid) FROM measurements) - ?",
                (_MEASUREMENTS_KEPT,),
            )

    def history(self, count: int) -> Sequence[PastMeasurement]:
        """Return the newest measurements, newest first."""
        found = self._db.read(
            f"SELECT {', '.join(_MEASUREMENT)} FROM measurements"  # noqa: S608
            " ORDER BY rowid DESC LIMIT ?",
            (count,),
        )
        return tuple(PastMeasurement(**dict(zip(_MEASUREMENT, row, strict=True))) for row in found)

    def _utc(self) -> str:
        moment = datetime.fromtimestamp(self._now(), timezone.utc)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _summary(rows: Sequence[tuple[Any, ...]]) -> tuple[Evicted, ...]:
    """Return one line per stream and class of the rows (key, stream, klass, number)."""
    found: dict[tuple[str, str], list[int]] = {}
    for _, stream, klass, number in rows:
        found.setdefault((stream, klass), []).append(number)
    return tuple(
        Evicted(stream, klass, len(numbers), min(numbers), max(numbers))
        for (stream, klass), numbers in found.items()
    )
