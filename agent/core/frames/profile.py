"""Profiling CSVs: frames that were run, when, and their latency and power."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from agent.core.errors import CameraError

_MAX_ROWS = 100_000
_KNOWN = (
    "frame", "video", "frame_index", "timestamp", "latency_ms", "power_w", "model", "precision",
    "batch", "runtime", "board", "power_mode",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRow:
    """One measured inference. Missing values are None, missing names empty.

    Attributes:
        line: Line of the CSV, from 1, for messages.
        frame: Path of the picture, or of the video if frame_index is set.
        frame_index: Frame of the video, from 0.
        timestamp_s: Seconds; since 1970 in UTC if the CSV states a date.
        latency_ms: Measured wall time of the inference, > 0.
        power_w: Measured power, >= 0.
        runtime: What executed it; "" if missing, as are board and power_mode.
    """

    line: int
    frame: str
    frame_index: int | None
    timestamp_s: float | None
    latency_ms: float | None
    power_w: float | None
    model: str
    precision: str
    batch: int | None
    runtime: str = ""
    board: str = ""
    power_mode: str = ""


def parse_profile(lines: Iterable[str], *, frames: bool = True) -> tuple[ProfileRow, ...]:
    """Return the rows of a profiling CSV; columns in any order, unknown ones are ignored.

    Args:
        lines: The CSV with its header line: `frame`, or `video` and `frame_index`, are required;
            timestamp, latency_ms, power_w, model, precision, batch, runtime, board and power_mode
            are optional.
        frames: False for measurements without frames.

    Raises:
        CameraError: "bad_profile" with line and column for every invalid value; nothing is guessed
            or dropped.
    """
    reader = csv.reader(lines, strict=True)
    rows: list[ProfileRow] = []
    try:
        header = _header(next(reader, []), frames=frames)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            line = reader.line_num
            if len(cells) != len(header):
                raise _bad(line, f"has {len(cells)} cells, the header has {len(header)}")
            if len(rows) == _MAX_ROWS:
                raise _bad(line, f"is beyond the limit of {_MAX_ROWS} rows")
            rows.append(_row(line, dict(zip(header, map(str.strip, cells), strict=True)), frames))
    except csv.Error as e:
        raise _bad(reader.line_num, f"is not CSV: {e}") from e
    if not rows:
        raise CameraError("the profile has no rows", code="bad_profile")
    return tuple(rows)


def _header(cells: list[str], *, frames: bool) -> list[str]:
    header = [cell.strip().lower() for cell in cells]
    twice = sorted({name for name in header if name in _KNOWN and header.count(name) > 1})
    if twice:
        raise _bad(1, f"names the column {twice[0]} twice")
    if frames and "frame" not in header and not {"video", "frame_index"} <= set(header):
        raise _bad(1, "has neither the column frame nor the columns video and frame_index")
    return header


def _row(line: int, cells: Mapping[str, str], frames: bool) -> ProfileRow:
    frame = cells.get("frame", "")
    video = cells.get("video", "")
    if frames and bool(frame) == bool(video):
        raise _bad(line, "names both a frame and a video" if frame else "names no frame or video")
    index = _whole(line, "frame_index", cells, at_least=0)
    if frames and video and index is None:
        raise _bad(line, "names a video without a frame_index")
    return ProfileRow(
        line=line,
        frame=frame or video,
        frame_index=index if video else None,
        timestamp_s=_timestamp_s(line, cells.get("timestamp", "")),
        latency_ms=_number(line, "latency_ms", cells, zero=False),
        power_w=_number(line, "power_w", cells, zero=True),
        model=cells.get("model", ""),
        precision=cells.get("precision", "").lower(),
        batch=_whole(line, "batch", cells, at_least=1),
        runtime=cells.get("runtime", ""),
        board=cells.get("board", ""),
        power_mode=cells.get("power_mode", ""),
    )


def _number(line: int, name: str, cells: Mapping[str, str], *, zero: bool) -> float | None:
    text = cells.get(name, "")
    if not text:
        return None
    value = _float(text)
    if value is None or value < 0 or (value == 0 and not zero):
        raise _bad(line, f"{name} = {text[:40]!r} is not a number {'>= 0' if zero else '> 0'}")
    return value


def _whole(line: int, name: str, cells: Mapping[str, str], *, at_least: int) -> int | None:
    text = cells.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 9) or int(text) < at_least:
        raise _bad(line, f"{name} = {text[:40]!r} is not a whole number >= {at_least}")
    return int(text)


def _timestamp_s(line: int, text: str) -> float | None:
    if not text:
        return None
    value = _float(text)
    if value is not None:
        return value
    try:
        date = datetime.fromisoformat(text.replace("Z", "+00:00").replace("z", "+00:00"))
        return (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError) as e:
        raise _bad(
            line, f"timestamp = {text[:40]!r} is neither seconds nor an ISO 8601 date"
        ) from e


def _float(text: str) -> float | None:
    """Return a finite number, None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _bad(line: int, what: str) -> CameraError:
    return CameraError(f"line {line}: {what}", code="bad_profile", hint="correct the profile")
