"""Accuracy of FP32 and of an engine against the labels of frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

from agent.core.errors import ConfigError
from agent.core.fidelity.box_decoding import Outputs
from agent.core.frames.camera_uri import CAMERAS

LabelT = TypeVar("LabelT")
_SHOWN = 3


class Accuracy(Protocol):
    """Accumulates over frames, in the order of their labels."""

    @property
    def frames(self) -> int:
        """Number of labelled frames so far."""
        ...

    def add(self, expected: Outputs, seen: Outputs) -> None:
        """Add the outputs of the baseline and the engine for one frame.

        Raises:
            ConfigError: "labels" if the labels don't fit the outputs.
        """
        ...

    def metrics(self) -> dict[str, float]:
        """Return figures by name, 0..1: accuracy is the engine's, baseline_accuracy FP32's."""
        ...

    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of the engine's accuracy; None with few frames."""
        ...


def labels_of(
    names: Sequence[str], labels: Mapping[str, LabelT], known: Iterable[str]
) -> tuple[LabelT | None, ...]:
    """Return the label of each frame of the holdout; None if it is not known.

    Args:
        names: The camera's names of the frames; "" for frames without a name.
        labels: By name.
        known: Names that have labels, for the error.

    Raises:
        ConfigError: "labels" if none of the frames has a label.
    """
    found = tuple(labels.get(name) for name in names)
    if any(label is not None for label in found):
        return found
    named = [name for name in names if name]
    mine = ", ".join(named[:_SHOWN]) if named else "they have no names"
    theirs = ", ".join(islice(known, _SHOWN)) or "nothing"
    raise ConfigError(
        f"none of the {len(names)} held-out frames ({mine}) is in model.task.labels ({theirs})",
        code="labels",
        hint="names of frames: "
        + "; ".join(
            f"{kind.example} {kind.frame_names}" for kind in CAMERAS.values() if kind.frame_names
        ),
    )


def require_single(frames: int) -> None:
    """Check that an inference whose outputs can't be split by frame has one frame.

    Raises:
        ConfigError: "labels" if it has several.
    """
    if frames > 1:
        raise ConfigError(
            f"model.task.labels needs outputs by frame, but those of a batch of {frames} do "
            "not begin with the batch",
            code="labels",
            hint="set search.batch = [1], or remove model.task.labels",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyFigures:
    """What is known after all frames.

    Attributes:
        metrics: By name, 0..1.
        ci95: The 95 % interval of the engine's accuracy.
        reason: Why there are no metrics or no interval; empty without labels.
        frames: Number of labelled frames.
    """

    metrics: Mapping[str, float]
    ci95: tuple[float, float] | None
    reason: str
    frames: int


def figures_of(accuracy: Accuracy | None) -> AccuracyFigures:
    """Return the figures of an accuracy; none without labels."""
    if accuracy is None:
        return AccuracyFigures(metrics={}, ci95=None, reason="", frames=0)
    metrics, ci95, frames = accuracy.metrics(), accuracy.interval(), accuracy.frames
    if not metrics:
        reason = f"the labels show no object on the {frames} labelled frames"
    else:
        reason = "" if ci95 else f"{frames} labelled frames are too few for an interval"
    return AccuracyFigures(metrics=metrics, ci95=ci95, reason=reason, frames=frames)
