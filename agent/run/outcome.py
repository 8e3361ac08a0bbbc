"""What the heavy stages of a run found."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.records import (
    CalibrationSet,
    Candidate,
    CleanModel,
    Platform,
    PowerTrace,
    Statistics,
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Everything known after the measurements; choice, activation and report follow.

    Attributes:
        conditioning: What was tried to make the model easier to quantize, in words.
        reused: True if the frames are those of an earlier run.
        counted: The statistics behind the INT8 scales, None if there are none.
        not_extended: Why they were not added to earlier ones, though asked; else "".
        traces: Of power, one for each power mode.
    """

    platform: Platform
    model: CleanModel
    calibration: CalibrationSet
    candidates: tuple[Candidate, ...]
    conditioning: tuple[str, ...]
    reused: bool = False
    counted: Statistics | None = None
    not_extended: str = ""
    traces: tuple[PowerTrace, ...] = ()
