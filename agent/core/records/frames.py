"""The frames of a capture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.core.records.digests import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """How many frames were rejected, by the first reason that applied."""

    blur: int = 0
    exposure: int = 0
    duplicate: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSet:
    """Frames kept from one capture, as PNG files `frames/*.png` beside the record.

    Attributes:
        source: Camera URI without credentials.
        synthetic: True if it is of no real camera or recording.
        frames: File names for calibration, in order of selection.
        holdout: File names never used for calibration, only to judge fidelity.
        seen: Frames looked at in the window.
        lost: Times the stream was lost and came back during the window.
        origins: What the camera calls the frames, by file name, where it has names for them.
        captured: When the window began, RFC 3339 in UTC; "" if an earlier version stored it.
        distinct: How many of the kept frames differ by more than noise; None if an earlier version
            stored it.
    """

    digest: Digest
    source: str
    synthetic: bool
    width: int
    height: int
    frames: tuple[str, ...]
    holdout: tuple[str, ...]
    seen: int
    lost: int
    rejected: Rejected
    origins: Mapping[str, str] = field(default_factory=dict)
    captured: str = ""
    distinct: int | None = None
