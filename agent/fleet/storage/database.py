"""What both databases do with their own transactions."""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from agent.core.control.ulid import first_ulid, ulid_ms
from agent.core.fleet.devices import Worker
from agent.core.fleet.holes import Gap
from agent.core.fleet.hours import hour_of
from agent.core.fleet.messages import Quarantined, Received
from agent.fleet.storage import writing
from agent.fleet.storage.plan import plan
from agent.fleet.storage.reading import HOUR_MS, Queries
from agent.fleet.storage.writing import MISSING, Transaction

DAY_MS = 24 * HOUR_MS
RAW_MS = 49 * HOUR_MS  # an hour above what a message may be late
HOURS_MS = 396 * DAY_MS  # 13 months
KEPT_MS = 90 * DAY_MS
HOLES_MS = 7 * DAY_MS
REPORTS = 20  # of a model and device
_DEVICES = 100  # in one transaction, so that messages need not wait for long
_OLD_REPORTS = f"""DELETE FROM report WHERE (dev, id) IN (SELECT dev, id FROM (
    SELECT dev, id, ROW_NUMBER() OVER (PARTITION BY dev, model ORDER BY id DESC) AS place
    FROM report) AS placed WHERE place > {REPORTS})"""


class FleetDatabase(Queries):
    """Implements the writing half of `ports.FleetStore`.

    Attributes:
        parted: Whether old telemetry is dropped by partitions; else it is deleted by device.
    """

    parted = False

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # of devices; they never change

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[Transaction]:
        """Run the block as one transaction."""

    @abstractmethod
    def _alone(self) -> AbstractContextManager[bool]:
        """Yield whether no other process tidies, and keep others from it."""

    @abstractmethod
    def _prepare(self, now_ms: int) -> None:
        """Make what messages of now need."""

    @abstractmethod
    def _forget(self, table: str, before: bytes) -> None:
        """Remove the rows of a table with ids below one; later ones may stay for some days."""

    def write(self, messages: Sequence[Received], quarantined: Sequence[Quarantined]) -> int:
        """See `ports.FleetStore`."""
        now_ms = time.time_ns() // 1_000_000
        self._prepare(now_ms)
        unknown = {one.device for one in messages if one.device not in self._numbers}
        with self._transaction() as db:
            added = _registered(db, unknown, now_ms)
            numbers = {**self._numbers, **added} if added else self._numbers
            new = writing.store(db, plan(messages, numbers), now_ms) if messages else 0
            if quarantined:
                writing.refuse(db, quarantined, numbers)
        self._numbers = numbers
        return new

    def report_worker(self, worker: Worker) -> None:
        """See `ports.FleetStore`."""
        with self._transaction() as db:
            writing.report_worker(db, worker)

    def retire_worker(self, name: str, *, retired: bool) -> None:
        """See `ports.FleetStore`."""
        with self._transaction() as db:
            writing.retire_worker(db, name, retired=retired)

    def tidy(self, now_ms: int) -> None:
        """See `ports.FleetStore`."""
        with self._alone() as alone:
            if not alone:
                return
            raw_hour = (now_ms - RAW_MS) // HOUR_MS
            raw = first_ulid(raw_hour * HOUR_MS)
            oldest_hour = (now_ms - HOURS_MS) // HOUR_MS
            numbers = [number for (number,) in self._read("SELECT id FROM device ORDER BY id")]
            for start in range(0, len(numbers), _DEVICES):
                with self._transaction() as db:
                    for dev in numbers[start : start + _DEVICES]:
                        _roll(db, dev, raw_hour)
                        if not self.parted:
                            db.change("DELETE FROM telemetry WHERE dev = ? AND id < ?", (dev, raw))
                        db.change(
                            "DELETE FROM hourly WHERE dev = ? AND hour < ?", (dev, oldest_hour)
                        )
            if self.parted:
                self._forget("telemetry", raw)
            kept = first_ulid(now_ms - KEPT_MS)
            self._forget("event", kept)
            self._forget("result", kept)
            with self._transaction() as db:
                db.change("DELETE FROM answer WHERE id < ?", (kept,))
                db.change(_OLD_REPORTS)
                _give_up(db, now_ms)


def _registered(db: Transaction, names: Iterable[str], now_ms: int) -> dict[str, int]:
    """Return the numbers of devices, after adding those that are new."""
    wanted = sorted(names)
    if not wanted:
        return {}
    sql = "INSERT INTO device (name, first_ms) VALUES (?, ?) ON CONFLICT (name) DO NOTHING"
    db.change_each(sql, [(name, now_ms) for name in wanted])
    marks = ", ".join("?" * len(wanted))
    return dict(db.rows(f"SELECT name, id FROM device WHERE name IN ({marks})", tuple(wanted)))


def _roll(db: Transaction, dev: int, before_hour: int) -> None:
    """Reduce a device's telemetry before an hour to hours, each once."""
    sql = "SELECT rolled_hour FROM device WHERE id = ?"
    from_hour = db.rows(sql, (dev,))[0][0]
    sql = "SELECT id, figures FROM telemetry WHERE dev = ? AND id >= ? AND id < ? ORDER BY id"
    ends = (first_ulid(from_hour * HOUR_MS), first_ulid(before_hour * HOUR_MS))
    hours: dict[int, list[dict[str, Any]]] = {}
    for message, figures in db.rows(sql, (dev, *ends)):
        hours.setdefault(ulid_ms(message) // HOUR_MS, []).append(json.loads(figures))
    if not hours:
        return
    db.change_each(
        "INSERT INTO hourly (dev, hour, figures) VALUES (?, ?, ?) ON CONFLICT (dev, hour) DO NOTHING",
        [
            (dev, hour, json.dumps(hour_of(figures), separators=(",", ":")))
            for hour, figures in hours.items()
        ],
    )
    db.change("UPDATE device SET rolled_hour = ? WHERE id = ?", (before_hour, dev))


def _give_up(db: Transaction, now_ms: int) -> None:
    """Forget holes that nothing filled for a week."""
    for dev, kind, text in db.rows("SELECT dev, kind, holes FROM stream WHERE missing > 0"):
        holes: list[Gap] = json.loads(text)
        left = [hole for hole in holes if hole[2] > now_ms - HOLES_MS]
        if len(left) < len(holes):
            missing = sum(last - first + 1 for first, last, _ in left)
            sql = "UPDATE stream SET holes = ?, missing = ? WHERE dev = ? AND kind = ?"
            db.change(sql, (json.dumps(left, separators=(",", ":")), missing, dev, kind))
            db.change(MISSING, (now_ms, dev))
