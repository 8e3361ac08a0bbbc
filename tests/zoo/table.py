"""The table of `make zoo`, for a terminal and for the README.

python -m tests.zoo.table zoo.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.zoo.architectures import TARGETS

_HEADER = (
    "architecture", "exporter", "nodes", "intake", "U8S8", "S8S8", "INT8 share", "FP16", "CPU s, wall s",
)  # fmt: skip

_LONGEST = 300


def render(rows: Mapping[str, Any]) -> str:
    """Return the table as Markdown, with the reasons of what is missing below it."""
    lines = [_line(_HEADER), _line("---" for _ in _HEADER)]
    missing = []
    for file, (architecture, exporter) in TARGETS.items():
        if file not in rows:
            continue
        row = rows[file]
        lines.append(_line((architecture.name, exporter, *_cells(row))))
        missing += [f"- {architecture.name}, {exporter}: {one}" for one in reasons(row)]
    cpu_min = sum(row.get("process_cpu_s", 0.0) for row in rows.values()) / 60
    lines += ["", f"{len(rows)} exports, {cpu_min:.0f} CPU minutes.", "", *missing]
    return "\n".join(lines) + "\n"


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Mapping[str, Any]) -> Iterator[str]:
    if "not_exported" in row:
        yield from ("", "not exported", "", "", "", "", "")
        return
    yield str(row.get("nodes", ""))
    apart = row.get("intake_difference")
    if apart is None:
        yield "not compared" if row.get("intake_reason") else "refused"
    else:
        yield f"{apart:.0e}" if apart else "0"
    made = row.get("candidates", {})
    for name in ("U8S8", "S8S8"):
        yield _figures(made.get(name, {}))
    shares = [made[n]["int8_share"] for n in ("U8S8", "S8S8") if "int8_share" in made.get(n, {})]
    yield "/".join(dict.fromkeys(f"{100 * share:.0f} %" for share in shares))
    yield _figures(made.get("fp16", {}))
    yield f"{row['process_cpu_s']:.0f}, {row['wall_s']:.0f}" if "wall_s" in row else ""


def _figures(made: Mapping[str, Any]) -> str:
    if not made:
        return ""
    if "failed" in made:
        return "refused"
    shown = "exact" if made["sqnr_db"] is None else f"{made['sqnr_db']:.1f} dB"
    return shown if made["agreement"] is None else f"{shown}, {made['agreement']:.2f}"


def reasons(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield what stands in the way of each missing figure."""
    for key in ("not_exported", "failed", "intake_reason"):
        if row.get(key):
            yield row[key]
    found: dict[str, list[str]] = {}
    for name, made in row.get("candidates", {}).items():
        if "failed" in made:
            found.setdefault(made["failed"], []).append(name)
        elif made["agreement"] is None and made["judged_frames"] is not None:
            found.setdefault(f"agreement: {made['agreement_reason']}", []).append(name)
    for reason, names in found.items():
        yield f"{', '.join(names)}: {reason}"


def last_error(log: str) -> str:
    """Return what an exporter failed of: the last line, or the first of PyTorch's own summary."""
    _, heading, summary = log.rpartition("## Exception summary")
    lines = (summary if heading else log).strip().splitlines() or ["no output"]
    return lines[0 if heading else -1][:_LONGEST]


def main(file: str) -> None:
    sys.stdout.write(render(json.loads(Path(file).read_text())["rows"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
