"""The journal in one SQLite file.

A damaged file is renamed and a new one created, as `recreated_from` shows: the daemon must start in
any case, and reports and releases are stored elsewhere.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, astuple, fields
from datetime import datetime, timezone

from agent.adapters.storage.database import Database
from agent.adapters.storage.outbox_table import BIRTHS_FIRST, NOTES, OUTBOX_SCHEMA, OutboxTable
from agent.core.control.command import Command, Stage, may_follow
from agent.core.control.journal import (
    Answered,
    Arrival,
    Entry,
    Evicted,
    OutboxLimits,
    Run,
)
from agent.core.errors import StoreError
from agent.core.prediction.history import PastMeasurement

_DETAIL_LIMIT = 2000
_INBOX_KEPT = 10_000
_FORGET_S = 7 * 86_400.0
_MEASUREMENTS_KEPT = 2000
_ENTRY = tuple(field.name for field in fields(Entry))
_MEASUREMENT = tuple(field.name for field in fields(PastMeasurement))
_LIMITS = OutboxLimits()
_SCHEMA = """
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
_INTERVALS = """
ALTER TABLE measurements ADD COLUMN power_w REAL;
ALTER TABLE measurements ADD COLUMN low_ms REAL;
ALTER TABLE measurements ADD COLUMN high_ms REAL;
ALTER TABLE measurements ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE measurements ADD COLUMN dla_core INTEGER NOT NULL DEFAULT -1;
"""
_SPANS = """
ALTER TABLE measurements ADD COLUMN span_low_ms REAL;
ALTER TABLE measurements ADD COLUMN span_high_ms REAL;
ALTER TABLE measurements ADD COLUMN predicted_w REAL;
ALTER TABLE measurements ADD COLUMN low_w REAL;
ALTER TABLE measurements ADD COLUMN high_w REAL;
ALTER TABLE measurements ADD COLUMN predicted_j REAL;
ALTER TABLE measurements ADD COLUMN low_j REAL;
ALTER TABLE measurements ADD COLUMN high_j REAL;
"""


_CANCELED = "ALTER TABLE runs ADD COLUMN canceled INTEGER NOT NULL DEFAULT 0;"


class SqliteJournal(OutboxTable):
    """The journal. Any thread may call it; one call or one `atomic` block at a time.

    Args:
        path: The database file, or ":memory:".
        limits: How much may wait to be sent.
        now: Wall clock, s since 1970.

    Attributes:
        recreated_from: New path of a damaged file, empty if none was.

    Raises:
        StoreError: if the file can't be opened, or was written by a newer version.
    """

    def __init__(
        self,
        path: str,
        limits: OutboxLimits = _LIMITS,
        now: Callable[[], float] = time.time,
    ) -> None:
        steps = (OUTBOX_SCHEMA + _SCHEMA, _INTERVALS, _SPANS, _CANCELED, BIRTHS_FIRST, NOTES)
        super().__init__(Database(path, steps), limits, now)
        self.recreated_from = self._db.recreated_from
        if self.recreated_from:  # count from above every number that the lost file can have used
            self._db.write("UPDATE counters SET value = ? WHERE name = ''", (int(now()),))

    def __enter__(self) -> SqliteJournal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def atomic(self) -> AbstractContextManager[None]:
        """See `ports.Journal`."""
        return self._db.atomic()

    # Inbox ------------------------------------------------------------------------------------

    def receive(self, command: Command) -> Arrival:
        """See `ports.Journal`."""
        with self.atomic():
            new = self._db.write(
                "INSERT INTO inbox (id, sha256, type, args, stage, version, received_s, exp_s)"
                " VALUES (?, ?, ?, ?, ?, 0, ?, ?) ON CONFLICT (id) DO NOTHING",
                (
                    command.id,
                    command.digest,
                    command.type,
                    json.dumps(asdict(command.request)),
                    Stage.RECEIVED.value,
                    self._now(),
                    command.exp,
                ),
            )
            if new:
                return Arrival.NEW
            known = self._db.read("SELECT sha256 FROM inbox WHERE id = ?", (command.id,))
            same = known[0][0] == command.digest
            return Arrival.DUPLICATE if same else Arrival.CONFLICT

    def evict(self) -> Sequence[Evicted]:
        """See `ports.Journal`."""
        # Only expired commands may be removed, since a replay is rejected as expired. Commands
        # without an expiry are unsigned, and the broker does not have them any more. To look for
        # them at each command would take longer with each that is kept.
        with self.atomic():
            self._db.write(
                "DELETE FROM inbox WHERE coalesce(exp_s, received_s) < ?"
                " AND rowid <= (SELECT MAX(rowid) FROM inbox) - ?",
                (self._now() - _FORGET_S, _INBOX_KEPT),
            )
            return super().evict()

    def advance(self, command_id: str, answer: Answered) -> int:
        """See `ports.Journal`."""
        with self.atomic():
            found = self._db.read("SELECT stage, version FROM inbox WHERE id = ?", (command_id,))
            if not found:
                return 0
            stage, version = found[0]
            if not may_follow(Stage(stage), answer.stage):
                raise StoreError(
                    f"command {command_id}: {answer.stage.value} after {stage}", code="stage"
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
            return int(version) + 1

    def entry(self, command_id: str) -> Entry | None:
        """See `ports.Journal`."""
        found = self._entries("WHERE id = ?", (command_id,))
        return found[0] if found else None

    def unanswered(self) -> Sequence[Entry]:
        """See `ports.Journal`."""
        final = [stage.value for stage in Stage if stage.final]
        marks = ", ".join("?" * len(final))
        return tuple(
            self._entries(f"WHERE stage NOT IN ({marks}) ORDER BY received_s, rowid", tuple(final))
        )

    def _entries(self, clause: str, values: tuple[object, ...]) -> list[Entry]:
        found = self._db.read(
            "SELECT id, sha256, type, args, stage, version, code, detail, result"  # noqa: S608
            f" FROM inbox {clause}",
            values,
        )
        return [
            Entry(**{**dict(zip(_ENTRY, row, strict=True)), "stage": Stage(row[4])})
            for row in found
        ]

    # Runs and measurements --------------------------------------------------------------------

    def begin_run(self, run_id: str, trigger: str, command_id: str | None, spec: str) -> None:
        """See `ports.Journal`."""
        now = self._utc()
        self._db.write(
            "INSERT INTO runs (id, cause, command_id, spec, started, updated)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " attempts = attempts + 1, outcome = '', updated = excluded.updated",
            (run_id, trigger, command_id, spec, now, now),
        )

    def specify_run(self, run_id: str, spec: str) -> None:
        """See `ports.Journal`."""
        self._db.write(
            "UPDATE runs SET spec = ?, updated = ? WHERE id = ?", (spec, self._utc(), run_id)
        )

    def reach(self, run_id: str, stage: str) -> None:
        """See `ports.Journal`."""
        with self.atomic():
            found = self._db.read("SELECT stage FROM runs WHERE id = ?", (run_id,))
            reached = found[0][0].split() if found else [stage]
            if stage not in reached:
                self._db.write(
                    "UPDATE runs SET stage = ?, attempts = 1, updated = ? WHERE id = ?",
                    (" ".join([*reached, stage]), self._utc(), run_id),
                )

    def interrupt_run(self, run_id: str, *, final: bool) -> None:
        """See `ports.Journal`."""
        change = "canceled = 1" if final else "attempts = attempts - 1"
        self._db.write(f"UPDATE runs SET {change} WHERE id = ?", (run_id,))  # noqa: S608

    def end_run(self, run_id: str, outcome: str) -> None:
        """See `ports.Journal`."""
        self._db.write(
            "UPDATE runs SET outcome = ?, updated = ? WHERE id = ?", (outcome, self._utc(), run_id)
        )

    def unfinished_runs(self) -> Sequence[Run]:
        """See `ports.Journal`."""
        names = [field.name for field in fields(Run)]
        found = self._db.read(
            "SELECT id, cause, command_id, spec, attempts, canceled FROM runs WHERE outcome = ''"
            " ORDER BY rowid"
        )
        return tuple(
            Run(**{**dict(zip(names, row, strict=True)), "canceled": bool(row[5])}) for row in found
        )

    def outcomes(self) -> Mapping[str, int]:
        """See `ports.Journal`."""
        ended = "SELECT outcome, COUNT(*) FROM runs WHERE outcome != '' GROUP BY outcome"
        return dict(self._db.read(ended))

    def record(self, measurement: PastMeasurement) -> None:
        """See `ports.Journal`."""
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
        """See `ports.Journal`."""
        found = self._db.read(
            f"SELECT {', '.join(_MEASUREMENT)} FROM measurements"  # noqa: S608
            " ORDER BY rowid DESC LIMIT ?",
            (count,),
        )
        return tuple(PastMeasurement(**dict(zip(_MEASUREMENT, row, strict=True))) for row in found)

    def _utc(self) -> str:
        moment = datetime.fromtimestamp(self._now(), timezone.utc)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
