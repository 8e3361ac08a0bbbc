"""What the fleet measured, as the CSV that `search.fleet` of a device reads."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from typing import IO

from agent.core.fleet.devices import ReportRow
from agent.core.report.figures import at
from agent.core.report.metrics import number, reported_row
from agent.fleet.reading import document
from agent.ports.fleet import FleetStore

COLUMNS = ("model", "precision", "batch", "runtime", "board", "power_mode", "latency_ms", "power_w")
_OF_A_KIND = 500  # rows alike in all but their figures: more rows hardly move their median
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # of a spreadsheet
_LONGEST = 128


def export(store: FleetStore, to: IO[str]) -> int:
    """Write one row for each candidate that a device's newest report on a model has measured.

    Those that throttled are left out, and texts that a spreadsheet would compute.

    Returns:
        The number of rows.
    """
    writer = csv.DictWriter(to, COLUMNS, lineterminator="\n")
    writer.writeheader()
    kinds: Counter[tuple[object, ...]] = Counter()
    count = 0
    for model in store.models():
        for report in store.newest_reports(model):
            for row in _rows(store, report):
                kind = tuple(row[name] for name in COLUMNS[:6])
                kinds[kind] += 1
                if kinds[kind] <= _OF_A_KIND:
                    writer.writerow(row)
                    count += 1
    return count


def _rows(store: FleetStore, report: ReportRow) -> Iterator[dict[str, object]]:
    found = document(store, report.device, report.id) or {}
    candidates = at(found, "candidates")
    for one in candidates if isinstance(candidates, list) else ():
        row = reported_row(found, str(at(one, "id")))
        latency_ms = number(row, "measured.latency_ms.p50")
        batch = number(row, "batch")
        if latency_ms is None or latency_ms <= 0 or at(row, "measured.throttled") is True:
            continue
        power_w = number(row, "measured.power_w.mean")
        texts = {
            "model": report.model_sha256 or report.model,
            "precision": at(row, "precision"),
            "runtime": at(row, "runtime"),
            "board": report.board,
            "power_mode": at(row, "power_mode") or "",
        }
        if not all(_is_plain(text) for text in texts.values()) or not texts["precision"]:
            continue
        yield {
            **texts,
            "batch": int(batch) if batch is not None and batch >= 1 else "",
            "latency_ms": latency_ms,
            "power_w": power_w if power_w is not None and power_w >= 0 else "",
        }


def _is_plain(text: object) -> bool:
    return (
        isinstance(text, str)
        and len(text) <= _LONGEST
        and text.isprintable()
        and not text.startswith(_FORMULA)
    )
