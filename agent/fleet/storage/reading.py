"""The queries of the console, for both databases."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

from agent.core.control.ulid import first_ulid, ulid_bytes, ulid_text
from agent.core.fleet.devices import (
    ATTENTION,
    GROUPED,
    Counts,
    Device,
    DeviceDetail,
    DeviceQuery,
    EventRow,
    Hole,
    Page,
    QuarantineRow,
    ReportRow,
    ResultRow,
    Sample,
    Worker,
)
from agent.fleet.storage.plan import Row
from agent.fleet.storage.schema import STREAMS

RowT = TypeVar("RowT")
HOUR_MS = 3_600_000
SILENT_MS = 300_000
HOLES_MS = 60_000  # messages of one device may come by several workers, one later than another
DAY_MS = 86_400_000
_COMMONEST = 100  # values of one column that are counted
_COLUMNS = tuple(one.name for one in fields(Device) if one.name != "attention")
_STREAMS = {number: name for name, number in STREAMS.items()}


def _names(kind: type[Any], **spelled: str) -> str:
    """Return the columns of a row, of the table `t` unless spelled otherwise."""
    return ", ".join(spelled.get(one.name, f"t.{one.name}") for one in fields(kind))


_OF_DEVICE = " FROM {} t JOIN device d ON d.id = t.dev"
_EVENT = f"SELECT {_names(EventRow, device='d.name')}{_OF_DEVICE.format('event')}"
_RESULT = f"SELECT {_names(ResultRow, device='d.name')}{_OF_DEVICE.format('result')}"
_REPORT = (
    f"SELECT {_names(ReportRow, device='d.name', board='d.board', jetpack='d.jetpack')}"
    f"{_OF_DEVICE.format('report')}"
)


def _reasons(now_ms: int) -> dict[str, str]:
    """Return the condition of each reason why a device needs attention."""
    return {
        "silent": "(status = 'offline' OR (status <> 'shutdown'"
        f" AND seen_ms < {now_ms - SILENT_MS:d}))",
        "failing": "trouble <> ''",
        "worse": "(latency_p50_ms > 1.1 * report_p50_ms OR agreement < report_agreement - 0.02)",
        "outdated": "(pinned = 0 AND release <> '' AND newest_release > release)",
        "holes": f"(missing > 0 AND missing_ms < {now_ms - HOLES_MS:d})",
        "quarantined": f"quarantined_ms > {now_ms - DAY_MS:d}",
    }


def _urgency(now_ms: int) -> str:
    """Return an expression with one bit for each reason, the most urgent the highest."""
    found = _reasons(now_ms)
    bits = {name: 1 << place for place, name in enumerate(reversed(ATTENTION))}
    return " + ".join(f"CASE WHEN {found[name]} THEN {bits[name]} ELSE 0 END" for name in ATTENTION)


def _device(row: Sequence[Any]) -> Device:
    *values, bits = row
    reasons = tuple(
        name for place, name in enumerate(ATTENTION) if bits >> (len(ATTENTION) - 1 - place) & 1
    )
    return Device(**dict(zip(_COLUMNS, values, strict=True)), attention=reasons)


class Queries(ABC):
    """Implements the reading half of `ports.FleetStore`, on what a database returns for SQL."""

    @abstractmethod
    def _read(self, sql: str, values: Row = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query; values are bound to question marks."""

    def counts(self, now_ms: int) -> Counts:
        """See `ports.FleetStore`."""
        by = {}
        for column in GROUPED:
            sql = (
                f"SELECT {column}, COUNT(*) FROM device WHERE id > 0 GROUP BY {column}"
                f" ORDER BY 2 DESC, 1 LIMIT {_COMMONEST}"
            )
            by[column] = {value: number for value, number in self._read(sql) if value}
        reasons = _reasons(now_ms)
        sums = ", ".join(f"SUM(CASE WHEN {reasons[name]} THEN 1 ELSE 0 END)" for name in ATTENTION)
        total, *needed = self._read(f"SELECT COUNT(*), {sums} FROM device WHERE id > 0")[0]
        attention = {name: int(n or 0) for name, n in zip(ATTENTION, needed, strict=True)}
        return Counts(devices=total, by=by, attention=attention)

    def devices(self, query: DeviceQuery, now_ms: int) -> Page[Device]:
        """See `ports.FleetStore`."""
        where, values = _filter(query, now_ms)
        total = self._read(f"SELECT COUNT(*) FROM device WHERE {where}", values)[0][0]
        sort = _urgency(now_ms) if query.sort == "attention" else query.sort
        direction = "DESC" if query.descending else "ASC"
        sql = (
            f"SELECT {', '.join(_COLUMNS)}, {_urgency(now_ms)} FROM device WHERE {where}"
            f" ORDER BY ({sort}) IS NULL, {sort} {direction}, name LIMIT ? OFFSET ?"
        )
        rows = self._read(sql, (*values, query.limit, query.offset))
        return Page(rows=tuple(map(_device, rows)), total=total)

    def named(self, names: Sequence[str], now_ms: int) -> Sequence[Device]:
        """See `ports.FleetStore`."""
        if not names:
            return []
        marks = ", ".join("?" * len(names))
        sql = (
            f"SELECT {', '.join(_COLUMNS)}, {_urgency(now_ms)} FROM device"
            f" WHERE id > 0 AND name IN ({marks}) ORDER BY name"
        )
        return [_device(row) for row in self._read(sql, tuple(names))]

    def changed(self, since_ms: int) -> Sequence[str]:
        """See `ports.FleetStore`."""
        sql = "SELECT name FROM device WHERE id > 0 AND seen_ms >= ?"
        return [name for (name,) in self._read(sql, (since_ms,))]

    def device(self, name: str, now_ms: int) -> DeviceDetail | None:
        """See `ports.FleetStore`."""
        found = self.named([name], now_ms)
        if not found:
            return None
        number, first_ms = self._read("SELECT id, first_ms FROM device WHERE name = ?", (name,))[0]
        sql = "SELECT environment, models, commands, releases FROM inventory WHERE dev = ?"
        listed = self._read(sql, (number,)) or [("{}", "[]", "[]", "[]")]
        labels = self._read("SELECT key, value FROM label WHERE dev = ? ORDER BY key", (number,))
        sql = "SELECT kind, holes FROM stream WHERE dev = ? ORDER BY kind"
        environment, models, commands, releases = listed[0]
        return DeviceDetail(
            device=found[0],
            first_ms=first_ms,
            labels=dict(labels),
            environment=environment,
            models=models,
            commands=commands,
            releases=releases,
            holes=tuple(
                hole
                for kind, holes in self._read(sql, (number,))
                for hole in _holes(name, kind, holes)
            ),
        )

    def labels(self) -> Sequence[tuple[str, str, int]]:
        """See `ports.FleetStore`."""
        sql = (
            "SELECT key, value, COUNT(*) FROM label GROUP BY key, value ORDER BY key, 3 DESC, value"
        )
        return [(key, value, number) for key, value, number in self._read(sql)]

    def telemetry(self, device: str, from_ms: int, to_ms: int) -> Sequence[Sample]:
        """See `ports.FleetStore`."""
        found = self._read("SELECT id, rolled_hour FROM device WHERE name = ?", (device,))
        if not found:
            return []
        ((number, rolled_hour),) = found
        first = first_ulid(max(from_ms, rolled_hour * HOUR_MS))  # older ones are in the hours
        sql = """SELECT at_ms, 0, figures FROM telemetry
            WHERE dev = ? AND id >= ? AND id < ? ORDER BY id"""
        raw = self._read(sql, (number, first, first_ulid(to_ms)))
        sql = "SELECT hour, figures FROM hourly WHERE dev = ? AND hour >= ? AND hour < ? ORDER BY hour"
        hours = self._read(sql, (number, from_ms // HOUR_MS, -(-to_ms // HOUR_MS)))
        rows = [(hour * HOUR_MS, HOUR_MS, figures) for hour, figures in hours] + raw
        return [Sample(at_ms=at, span_ms=span, figures=figures) for at, span, figures in rows]

    def events(
        self, device: str = "", *, severity: str = "", before: str = "", limit: int = 50
    ) -> Sequence[EventRow]:
        """See `ports.FleetStore`."""
        asked = {"d.name = ?": device, "t.severity = ?": severity}
        return self._newest(EventRow, _EVENT, asked, before, limit)

    def results(
        self, device: str = "", *, command: str = "", before: str = "", limit: int = 50
    ) -> Sequence[ResultRow]:
        """See `ports.FleetStore`."""
        asked = {"d.name = ?": device, "t.command = ?": command}
        return self._newest(ResultRow, _RESULT, asked, before, limit)

    def answers(self, command: str, limit: int = 50, offset: int = 0) -> Page[ResultRow]:
        """See `ports.FleetStore`."""
        sql = "SELECT COUNT(*) FROM answer WHERE command = ?"
        total = self._read(sql, (command,))[0][0]
        sql = (
            f"{_RESULT} JOIN answer a ON a.dev = t.dev AND a.id = t.id"
            " WHERE a.command = ? ORDER BY d.name LIMIT ? OFFSET ?"
        )
        rows = _rows(ResultRow, self._read(sql, (command, limit, offset)))
        return Page(rows=tuple(rows), total=total)

    def stages(self, prefix: str) -> dict[str, int]:
        """See `ports.FleetStore`."""
        sql = """SELECT stage, COUNT(*) FROM answer WHERE command >= ? AND command < ?
            GROUP BY stage ORDER BY 2 DESC, 1"""
        return dict(self._read(sql, (prefix, f"{prefix}~")))

    def reports(
        self, device: str = "", *, model: str = "", before: str = "", limit: int = 50
    ) -> Sequence[ReportRow]:
        """See `ports.FleetStore`."""
        asked = {"d.name = ?": device, "t.model = ?": model}
        return self._newest(ReportRow, _REPORT, asked, before, limit)

    def newest_reports(self, model: str) -> Sequence[ReportRow]:
        """See `ports.FleetStore`."""
        sql = f"""{_REPORT} WHERE t.model = ? AND NOT EXISTS (SELECT 1 FROM report n
            WHERE n.model = t.model AND n.dev = t.dev AND n.id > t.id) ORDER BY d.name"""
        return _rows(ReportRow, self._read(sql, (model,)))

    def report(self, device: str, report: str) -> bytes | None:
        """See `ports.FleetStore`."""
        import zlib

        sql = """SELECT t.body FROM report t JOIN device d ON d.id = t.dev
            WHERE d.name = ? AND t.id = ?"""
        found = self._read(sql, (device, ulid_bytes(report)))
        return zlib.decompress(found[0][0]) if found else None

    def models(self) -> dict[str, int]:
        """See `ports.FleetStore`."""
        sql = "SELECT model, COUNT(DISTINCT dev) FROM report GROUP BY model ORDER BY 2 DESC, 1"
        return dict(self._read(sql))

    def quarantine(self, device: str = "", limit: int = 50) -> Sequence[QuarantineRow]:
        """See `ports.FleetStore`."""
        sql = f"SELECT {_names(QuarantineRow, device='d.name')}{_OF_DEVICE.format('quarantine')}"
        where, values = (" WHERE d.name = ?", (device,)) if device else ("", ())
        rows = self._read(f"{sql}{where} ORDER BY t.at_ms DESC LIMIT ?", (*values, limit))
        return _rows(QuarantineRow, rows)

    def holes(self, before_ms: int, limit: int = 50) -> Sequence[Hole]:
        """See `ports.FleetStore`."""
        sql = """SELECT d.name, t.kind, t.holes FROM stream t JOIN device d ON d.id = t.dev
            WHERE t.missing > 0 AND d.missing_ms < ? ORDER BY d.name LIMIT ?"""
        found = [
            hole
            for name, kind, holes in self._read(sql, (before_ms, limit))
            for hole in _holes(name, kind, holes)
        ]
        return [hole for hole in found if hole.noticed_ms < before_ms][:limit]

    def workers(self) -> Sequence[Worker]:
        """See `ports.FleetStore`."""
        sql = f"SELECT {_names(Worker)} FROM worker t ORDER BY t.name"
        return [
            Worker(
                **dict(
                    zip((f.name for f in fields(Worker)), (*row[:-1], bool(row[-1])), strict=True)
                )
            )
            for row in self._read(sql)
        ]

    def _newest(
        self, kind: type[RowT], select: str, asked: dict[str, str], before: str, limit: int
    ) -> Sequence[RowT]:
        """Return rows, newest first, where what was asked for is equal."""
        conditions = [condition for condition, value in asked.items() if value]
        values: list[object] = [value for value in asked.values() if value]
        if before:
            conditions.append("t.id < ?")
            values.append(ulid_bytes(before))
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        sql = f"{select}{where} ORDER BY t.id DESC LIMIT ?"
        return _rows(kind, self._read(sql, (*values, limit)))


def _rows(kind: type[RowT], rows: Sequence[Sequence[Any]]) -> list[RowT]:
    names = [one.name for one in fields(kind)]  # type: ignore[arg-type]  # mypy: no bound for dataclasses
    made = []
    for row in rows:
        values = dict(zip(names, row, strict=True))
        if "id" in values:
            values["id"] = ulid_text(values["id"])
        made.append(kind(**values))
    return made


def _holes(device: str, kind: int, holes: str) -> list[Hole]:
    return [
        Hole(device=device, stream=_STREAMS[kind], first=first, last=last, noticed_ms=noticed_ms)
        for first, last, noticed_ms in json.loads(holes)
    ]


def _filter(query: DeviceQuery, now_ms: int) -> tuple[str, Row]:
    """Return the condition of a query and its values."""
    conditions, values = ["id > 0"], []
    if query.search:
        quoted = query.search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        conditions.append("LOWER(name) LIKE ? ESCAPE '\\'")
        values.append(f"%{quoted.lower()}%")
    for key, value in query.where:
        if key in GROUPED:
            conditions.append(f"{key} = ?")
            values.append(value)
        else:
            conditions.append(
                "EXISTS (SELECT 1 FROM label WHERE dev = device.id AND key = ? AND value = ?)"
            )
            values += [key, value]
    if query.attention == "any":
        conditions.append(f"{_urgency(now_ms)} > 0")
    elif query.attention:
        conditions.append(_reasons(now_ms)[query.attention])
    return " AND ".join(conditions), tuple(values)
