"""Decoding of a detector's raw outputs into boxes, for three kinds of exported detectors.

Boxes are only used for intersection over union, so their unit (pixels, cells, shares of the
picture) and a common shift don't matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import ConfigError
from agent.core.fidelity.detection import Detections, suppress

_MOST_RAW = 1000  # per frame before suppression, which would take minutes for a broken engine
_MOST = 100  # per frame: maxDets of the COCO evaluation
_FAR = 1e9  # limit of coordinates, beyond any picture; keeps areas finite
_LARGEST_LOG = 20.0  # e^20 cells
_TOLERANCE = 1e-3  # by which a score may leave 0..1 in rounding

Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """Decoding of outputs into boxes; names are those of the model's outputs.

    Attributes:
        kind: "boxes" (boxes and scores lie in outputs of their own), "centers" (heat maps of
            object centres, as CenterNet and CenterFace) or "yolo" (one output of boxes, by
            centre, and scores, as the exports of YOLOv8, or with objectness of YOLOv5).
        boxes: With 4 numbers per box; for "yolo" the whole head, "" for the first output.
        scores: One score per box, or one per box and class; for "centers" the heat maps.
        labels: One class id per box; "" if scores are per class.
        sizes: Of boxes centred at a cell, 2 channels.
        offsets: Of centres inside a cell, in cells, 2 channels; "" if there are none.
        format: Of `boxes`: "xyxy" corners or "cxcywh" centre and size.
        size: Unit of `sizes`: "cells", "log" (their logarithm) or "pixels".
        order: Channels of sizes and offsets: "xy" (width first) or "yx" (height first).
        stride: Pixels per cell, needed for sizes in pixels.
        logits: True if a sigmoid must be applied to scores.
        background: True if the first class is the background.
        objectness: True if an objectness score precedes those of the classes.
        threshold: Boxes with lower scores are dropped.
        overlap: Boxes of a class that overlap by more are one object; 1 if the graph suppresses.
    """

    kind: str
    boxes: str = ""
    scores: str = ""
    labels: str = ""
    sizes: str = ""
    offsets: str = ""
    format: str = "xyxy"
    size: str = "cells"
    order: str = "xy"
    stride: int = 4
    logits: bool = False
    background: bool = False
    objectness: bool = False
    threshold: float = 0.25
    overlap: float = 0.45


def decode(outputs: Outputs, how: Decoding, *, trusted: bool = False) -> Detections:
    """Return the detections of one frame, best first, at most 100.

    Args:
        outputs: Finite numbers, batch 1.
        how: The decoding.
        trusted: True for the baseline, whose invalid numbers mean that `how` is wrong; those of an
            engine may be its own fault.

    Raises:
        ConfigError: "decode" if outputs are missing or have other shapes than `how` needs, or if
            trusted ones have scores outside 0..1 or mostly boxes of negative size.
    """
    read = {"boxes": _boxes, "centers": _centers, "yolo": _yolo}[how.kind]
    found = read(_Reader(outputs, how, trusted), how)
    solid = np.flatnonzero((found.boxes[:, 2:] > found.boxes[:, :2]).all(axis=1))
    if trusted and 2 * len(solid) < len(found):
        raise _decode_error(
            "most boxes have no positive size",
            'check model.task.decode.format; a "yolo" head must contain decoded boxes '
            "(export YOLOX with its decoding)",
        )
    return suppress(found.pick(solid), how.overlap, _MOST)


class _Reader:
    """Outputs by name, as float64 without their batch axis, and their scores."""

    def __init__(self, outputs: Outputs, how: Decoding, trusted: bool) -> None:
        self._outputs = outputs
        self._how = how
        self._trusted = trusted

    def get(self, key: str) -> NDArray[np.float64]:
        """Return the output that a key of the decoding names; the first one for ""."""
        name = getattr(self._how, key) or next(iter(self._outputs))
        if name not in self._outputs:
            raise _decode_error(
                f'model.task.decode.{key} = "{name}" is no output of the model',
                "its outputs: " + ", ".join(self._outputs),
            )
        values = self._outputs[name]
        return (values[0] if values.ndim > 2 and len(values) == 1 else values).astype(np.float64)

    def shaped(self, key: str, dimensions: int) -> NDArray[np.float64]:
        """Return the output, checked to have this number of dimensions after the batch axis."""
        values = self.get(key)
        if values.ndim != dimensions:
            raise self.misshaped(key, values)
        return values

    def misshaped(self, key: str, values: NDArray[Any]) -> ConfigError:
        """Return the error for an output of the wrong shape."""
        shape = "x".join(map(str, values.shape))
        return _decode_error(
            f"model.task.decode.{key}: an output of shape {shape} is not what kind = "
            f'"{self._how.kind}" reads',
            "see model.task.decode in configs/quantd.toml for the shapes",
        )

    def probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return scores 0..1."""
        if self._how.logits:
            return np.asarray(1.0 / (1.0 + np.exp(-np.clip(scores, -500, 500))), np.float64)
        low, high = float(scores.min()), float(scores.max())
        if self._trusted and (low < -_TOLERANCE or high > 1 + _TOLERANCE):
            raise _decode_error(
                f"the baseline's scores reach from {low:.4g} to {high:.4g}, not inside 0..1",
                "set logits = true if a sigmoid is still to come; a head with more than boxes "
                "and scores (masks, key points) can't be read",
            )
        return scores


def _boxes(reader: _Reader, how: Decoding) -> Detections:
    """Read outputs (n, 4) and (n,), (n, classes) or (n, 1, ...), each possibly transposed."""
    boxes = _columns(reader.get("boxes"), 4)
    if boxes is None:
        raise reader.misshaped("boxes", reader.get("boxes"))
    scores = reader.get("scores")
    if scores.size % len(boxes):
        raise reader.misshaped("scores", scores)
    flat = scores.ndim > 1 and scores.shape[-1] == len(boxes) != scores.shape[-2]
    scores = scores.reshape(-1, len(boxes)).T if flat else scores.reshape(len(boxes), -1)
    scores = reader.probabilities(scores)
    labels = None
    if how.labels:
        labels = reader.get("labels").ravel()
        if labels.size != len(boxes) or scores.shape[1] != 1:
            raise reader.misshaped("labels", labels)
    if how.background:
        scores = scores[:, 1:]
        if not scores.size:
            raise reader.misshaped("scores", scores)
    return _above_threshold_boxes(boxes, scores, how, labels, corners=how.format == "xyxy")


def _yolo(reader: _Reader, how: Decoding) -> Detections:
    """Read one output (n, 4 + classes) or its transpose; the longer axis is that of the boxes."""
    head = reader.shaped("boxes", 2)
    head = head.T if head.shape[0] < head.shape[1] else head
    first = 5 if how.objectness else 4
    if head.shape[1] <= first:
        raise reader.misshaped("boxes", head)
    scores = reader.probabilities(head[:, 4:])
    if how.objectness:
        scores = scores[:, 1:] * scores[:, :1]
    return _above_threshold_boxes(head[:, :4], scores, how, None, corners=False)


def _centers(reader: _Reader, how: Decoding) -> Detections:
    """Read heat maps (classes, h, w), sizes and offsets (2, h, w), or all with channels last.

    Source: Zhou et al., "Objects as Points" (2019), section 4; the logarithm of the size, Xu et
        al., "CenterFace: Joint Face Detection and Alignment Using Face as Point" (2019).
    """
    heat, sizes = reader.probabilities(reader.shaped("scores", 3)), reader.shaped("sizes", 3)
    shifts = reader.shaped("offsets", 3) if how.offsets else np.zeros_like(sizes)
    if sizes.shape[0] != 2 and sizes.shape[2] == 2:
        heat, sizes, shifts = (np.moveaxis(values, 2, 0) for values in (heat, sizes, shifts))
    for key, values in (("sizes", sizes), ("offsets", shifts)):
        if values.shape != (2, *heat.shape[1:]):
            raise reader.misshaped(key, values)
    label, row, place = np.unravel_index(_above_threshold(heat.ravel(), how.threshold), heat.shape)
    x, y = (0, 1) if how.order == "xy" else (1, 0)
    extent = np.stack([sizes[x, row, place], sizes[y, row, place]], axis=1)
    if how.size == "log":
        extent = np.exp(np.clip(extent, -_LARGEST_LOG, _LARGEST_LOG))
    elif how.size == "pixels":
        extent = extent / how.stride
    center = np.stack([place + shifts[x, row, place], row + shifts[y, row, place]], axis=1)
    boxes = _corners(np.concatenate([center, extent], axis=1))
    return Detections(boxes, heat[label, row, place], label.astype(np.int64))


def _above_threshold_boxes(
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    how: Decoding,
    labels: NDArray[np.float64] | None,
    *,
    corners: bool,
) -> Detections:
    """Return the boxes whose best class reaches the threshold."""
    best = scores.max(axis=1)
    which = _above_threshold(best, how.threshold)
    named = scores[which].argmax(axis=1) if labels is None else np.rint(labels[which])
    kept = boxes[which]
    return Detections(
        np.clip(kept, -_FAR, _FAR) if corners else _corners(kept),
        best[which],
        np.clip(named, -_FAR, _FAR).astype(np.int64),
    )


def _above_threshold(scores: NDArray[np.float64], threshold: float) -> NDArray[np.intp]:
    """Return the indices of scores that reach the threshold, at most those of the 1000 highest."""
    which = np.flatnonzero(scores >= threshold)
    if which.size > _MOST_RAW:
        which = which[np.argsort(-scores[which], kind="stable")[:_MOST_RAW]]
    return which


def _corners(centered: NDArray[np.float64]) -> NDArray[np.float64]:
    center, half = np.clip(centered[:, :2], -_FAR, _FAR), np.clip(centered[:, 2:], -_FAR, _FAR) / 2
    return np.concatenate([center - half, center + half], axis=1)


def _columns(values: NDArray[np.float64], wanted: int) -> NDArray[np.float64] | None:
    """Return values as (n, wanted), transposed if needed; None if no axis has that length."""
    if values.shape[-1] == wanted:
        found: NDArray[np.float64] = values.reshape(-1, wanted)
        return found
    return values.T if values.ndim == 2 and values.shape[0] == wanted else None


def _decode_error(message: str, hint: str) -> ConfigError:
    return ConfigError(message, code="decode", hint=hint)
