"""What two engines find on a few holdout frames, to be drawn over them. No pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Point = tuple[float, float]
"""x and y, px of the frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One object of a detector, one class of a classifier or of a segmentation.

    Attributes:
        name: Of its class.
        score: As the model gives it; None for a class of a segmentation.
        box: The four corners, in order; empty without a box.
        mask: Outlines of the mask as SVG path data, px of the frame; "" without one.
        points: The key points that the model calls visible.
    """

    name: str
    score: float | None = None
    box: tuple[Point, ...] = ()
    mask: str = ""
    points: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one engine finds on one frame.

    Attributes:
        findings: Those that are drawn, the best first.
        count: Of all findings.
    """

    findings: tuple[Finding, ...]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One holdout frame.

    Attributes:
        frame: Its file in the calibration set.
        width: Of the frame, px.
        height: Of the frame, px.
        words: Both results and how alike they are, as in "fp32: 3 boxes; int8: 3; worst IoU 0.91".
        views: By candidate, the baseline first; one where the baseline itself is shown alone.
    """

    frame: str
    width: int
    height: int
    words: str
    views: Mapping[str, View]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenes:
    """The frames that the page shows.

    Attributes:
        scenes: In the order of their capture.
        reason: Why there is none; "" if nothing is missing or pictures are switched off.
    """

    scenes: tuple[Scene, ...] = ()
    reason: str = ""
