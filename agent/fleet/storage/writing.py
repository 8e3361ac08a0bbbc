"""The statements that store a batch, for both databases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from agent.core.fleet.devices import Worker
from agent.core.fleet.holes import Numbers, observe
from agent.core.fleet.messages import FIGURES, Quarantined
from agent.fleet.storage.plan import Plan, Row

KEPT_OF_QUARANTINE = 50  # of each device; its number of slots, so it never needs to be pruned
_ONLINE = """UPDATE device SET status = ?, agent = ?, release = ?,
    model = CASE WHEN ? = '' THEN model ELSE ? END, precision = ?, job = ?, waiting = ?, dropped = ?,
    state_at_ms = ?, state_sess = ?, state_will = ?, state_seq = ?
    WHERE id = ? AND (state_sess, state_will, state_seq) < (?, ?, ?)"""
_ENDED = """UPDATE device SET status = ?, job = '', state_at_ms = ?,
    state_sess = ?, state_will = ?, state_seq = ?
    WHERE id = ? AND (state_sess, state_will, state_seq) < (?, ?, ?)"""
SEEN = "UPDATE device SET seen_ms = ? WHERE id = ? AND seen_ms < ?"
_KEPT = "".join(f", {name} = COALESCE(?, {name})" for name in FIGURES)
FIGURES_NEWER = f"""UPDATE device SET figures_id = ?, figures_at_ms = ?, figures = ?{_KEPT}
    WHERE id = ? AND figures_id < ?"""
_REPORT = """UPDATE device SET report_id = ?, report_at_ms = ?, report_model = ?,
    report_p50_ms = ?, report_agreement = ? WHERE id = ? AND report_id < ?"""
_REPORTED = f"""UPDATE device SET figures_id = ?{_KEPT} WHERE id = ? AND figures_id < ?"""
_TROUBLE = "UPDATE device SET trouble_id = ?, trouble = ? WHERE id = ? AND trouble_id < ?"
_ANSWER = """INSERT INTO answer (command, dev, version, id, stage) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (command, dev) DO UPDATE
    SET version = excluded.version, id = excluded.id, stage = excluded.stage
    WHERE (answer.version, answer.id) < (excluded.version, excluded.id)"""
_META = """UPDATE device SET board = ?, jetpack = ?, meta_sess = ?, meta_seq = ?
    WHERE id = ? AND (meta_sess, meta_seq) < (?, ?)"""
_INVENTORY = """INSERT INTO inventory (dev, environment, models, commands) VALUES (?, ?, ?, ?)
    ON CONFLICT (dev) DO UPDATE SET environment = excluded.environment,
    models = excluded.models, commands = excluded.commands"""
_RELEASES = """UPDATE device SET newest_release = ?, pinned = ?, releases_sess = ?, releases_seq = ?
    WHERE id = ? AND (releases_sess, releases_seq) < (?, ?)"""
_LISTED = """INSERT INTO inventory (dev, releases) VALUES (?, ?)
    ON CONFLICT (dev) DO UPDATE SET releases = excluded.releases"""
_STREAM = """INSERT INTO stream (dev, kind, following, newest, holes, missing)
    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (dev, kind) DO UPDATE SET following = excluded.following,
    newest = excluded.newest, holes = excluded.holes, missing = excluded.missing"""
MISSING = """UPDATE device SET missing_ms = ?,
    missing = (SELECT SUM(missing) FROM stream WHERE dev = device.id) WHERE id = ?"""
_REFUSED = """UPDATE device SET quarantined = quarantined + ?, quarantined_ms = ? WHERE id = ?
    RETURNING quarantined"""
_QUARANTINE = """INSERT INTO quarantine (dev, slot, at_ms, topic, sha256, size, head, why)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (dev, slot) DO UPDATE SET at_ms = excluded.at_ms,
    topic = excluded.topic, sha256 = excluded.sha256, size = excluded.size, head = excluded.head,
    why = excluded.why"""


class Transaction(Protocol):
    """An open transaction of either database; values are bound to question marks."""

    def rows(self, sql: str, values: Row = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""

    def change(self, sql: str, values: Row = ()) -> int:
        """Run one statement; return how many rows it changed."""

    def change_each(self, sql: str, values: Iterable[Row]) -> None:
        """Run a statement with each of the values."""

    def lock(self, devices: Iterable[int]) -> None:
        """Keep other workers from devices, given in order, until the transaction ends."""

    def add(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> int:
        """Add rows that have a device and an id; return how many were not there yet."""


_ID = ("dev", "id", "at_ms")
TABLES: dict[str, tuple[str, ...]] = {
    "telemetry": (*_ID, "figures"),
    "event": (*_ID, "kind", "severity", "facts"),
    "result": (*_ID, "command", "stage", "version", "step", "pct", "code", "detail", "reference"),
    "report": (
        *(*_ID, "model", "model_sha256", "run", "precision", "runtime", "candidate", "release"),
        *("activation", "headline", "trouble", "size", "body"),
        *FIGURES,
    ),
}


def store(db: Transaction, made: Plan, now_ms: int) -> int:
    """Store what a batch changes; return how many of its rows were new."""
    added = zip(
        TABLES.items(), (made.telemetry, made.events, made.results, made.reports), strict=True
    )
    db.lock(made.devices)
    new = sum(db.add(table, columns, rows) for (table, columns), rows in added if rows)
    _newest(db, made)
    for dev, (order, inventory) in sorted(made.inventories.items()):
        board, jetpack, labels, *listed = inventory
        sess, _, seq = order
        if db.change(_META, (board, jetpack, sess, seq, dev, sess, seq)):
            db.change(_INVENTORY, (dev, *listed))
            db.change("DELETE FROM label WHERE dev = ?", (dev,))
            db.change_each(
                "INSERT INTO label (dev, key, value) VALUES (?, ?, ?)",
                [(dev, key, value) for key, value in labels],
            )
    for dev, (order, releases) in sorted(made.releases.items()):
        sess, _, seq = order
        newest = (releases.newest, int(releases.pinned), sess, seq, dev, sess, seq)
        if db.change(_RELEASES, newest):
            db.change(_LISTED, (dev, releases.listed))
    if made.came:
        _count(db, made.came, now_ms)
    return new


def _newest(db: Transaction, made: Plan) -> None:
    """Update the newest of each device, in the order of devices."""
    by_device = sorted
    db.change_each(SEEN, [(ms, dev, ms) for dev, ms in by_device(made.seen_ms.items())])
    db.change_each(
        _ONLINE,
        [
            (*state[:3], state.model, *state[3:], at_ms, *order, dev, *order)
            for dev, (order, at_ms, state) in by_device(made.online.items())
        ],
    )
    db.change_each(
        _ENDED,
        [
            (state.status, at_ms, *order, dev, *order)
            for dev, (order, at_ms, state) in by_device(made.ended.items())
        ],
    )
    db.change_each(
        FIGURES_NEWER,
        [
            (message, at_ms, telemetry.figures, *telemetry.known, dev, message)
            for dev, (message, at_ms, telemetry) in by_device(made.figures.items())
        ],
    )
    p50, agreement = FIGURES.index("latency_p50_ms"), FIGURES.index("agreement")
    reports = by_device(made.newest_reports.items())
    db.change_each(
        _REPORT,
        [
            (message, at_ms, one.model, one.known[p50], one.known[agreement], dev, message)
            for dev, (message, at_ms, one) in reports
        ],
    )
    db.change_each(
        _REPORTED, [(message, *one.known, dev, message) for dev, (message, _, one) in reports]
    )
    db.change_each(
        _TROUBLE,
        [(message, why, dev, message) for dev, (message, why) in by_device(made.trouble.items())],
    )
    db.change_each(_ANSWER, [(*key, *last) for key, last in by_device(made.answers.items())])


def _count(
    db: Transaction, came: dict[tuple[int, int], list[tuple[bytes, int]]], now_ms: int
) -> None:
    """Update which numbers of each stream are missing."""
    devices = sorted({dev for dev, _ in came})
    marks = ", ".join("?" * len(devices))
    sql = f"SELECT dev, kind, following, newest, holes FROM stream WHERE dev IN ({marks})"
    known = {
        (dev, kind): Numbers(
            following=following,
            newest=bytes(newest),
            holes=tuple((first, last, at) for first, last, at in json.loads(holes)),
        )
        for dev, kind, following, newest, holes in db.rows(sql, tuple(devices))
    }
    changed, differ = [], set()
    for key, messages in sorted(came.items()):
        before = known.get(key)
        after = observe(before, messages, now_ms)
        if after is not None and after != before:
            holes = json.dumps(after.holes, separators=(",", ":"))
            changed.append((*key, after.following, after.newest, holes, after.missing))
            if after.missing != (before.missing if before else 0):
                differ.add(key[0])
    db.change_each(_STREAM, changed)
    db.change_each(MISSING, [(now_ms, dev) for dev in sorted(differ)])


def refuse(db: Transaction, refused: Sequence[Quarantined], numbers: dict[str, int]) -> None:
    """Store messages that can't be stored otherwise: the last ones of each device, and count all.

    Those of unknown devices share the slots of number 0.
    """
    by_device: dict[int, list[Quarantined]] = {}
    for one in refused:
        by_device.setdefault(numbers.get(one.device, 0), []).append(one)
    for dev, found in sorted(by_device.items()):
        counted = (len(found), max(one.received_ms for one in found), dev)
        total = db.rows(_REFUSED, counted)[0][0]
        db.change_each(
            _QUARANTINE,
            [
                (
                    *(dev, (total - back) % KEPT_OF_QUARANTINE, one.received_ms, one.topic),
                    *(one.sha256, one.size, one.head, one.why),
                )
                for back, one in enumerate(reversed(found[-KEPT_OF_QUARANTINE:]))
            ],
        )


def report_worker(db: Transaction, worker: Worker) -> None:
    """Store what a worker reports; it can't end its own retirement."""
    sql = """INSERT INTO worker (name, started_ms, seen_ms, stored, duplicates, quarantined)
        VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET started_ms = excluded.started_ms,
        seen_ms = excluded.seen_ms, stored = excluded.stored, duplicates = excluded.duplicates,
        quarantined = excluded.quarantined"""
    counts = (worker.stored, worker.duplicates, worker.quarantined)
    db.change(sql, (worker.name, worker.started_ms, worker.seen_ms, *counts))


def retire_worker(db: Transaction, name: str, *, retired: bool) -> None:
    """Store that a worker is needed no longer, or is again."""
    sql = """INSERT INTO worker (name, started_ms, seen_ms, stored, duplicates, quarantined, retired)
        VALUES (?, 0, 0, 0, 0, 0, ?) ON CONFLICT (name) DO UPDATE SET retired = excluded.retired"""
    db.change(sql, (name, int(retired)))
