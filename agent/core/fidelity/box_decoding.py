"""Decoding of a detector's raw outputs into boxes, for the kinds of `decoders.DECODERS`.

The unit of boxes (pixels, cells, fractions of the picture) is that of the outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import ConfigError
from agent.core.fidelity.decoders import ROW, check_outputs
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.detection import Detections, box_overlaps, suppress
from agent.core.fidelity.probabilities import sigmoid, softmax
from agent.core.fidelity.similarity import drawn_masks, rotated_boxes

_MOST_RAW = 3000  # per frame before suppression, which would take minutes for a broken engine
_MOST = 1000  # per frame; far above what a sound detector finds, so that no agreement is cut off
_MOST_DRAWN = 100  # with masks, each drawn in the size of the picture
_FAR = 1e9  # limit of coordinates, beyond any picture; keeps areas finite
_LARGEST_LOG = 20.0  # e^20 cells
_TOLERANCE = 1e-3  # by which a score may leave 0..1 in rounding

Outputs = Mapping[str, NDArray[Any]]


def decode(outputs: Outputs, how: Decoding, *, trusted: bool = False) -> Detections:
    """Return the detections of one frame, best first, at most 1000, with masks 100.

    Args:
        outputs: Finite numbers, batch 1.
        how: The decoding.
        trusted: True for the baseline, whose invalid numbers mean that `how` is wrong; those of an
            engine may be its own fault.

    Raises:
        ConfigError: "decode" if outputs are missing or have other shapes than `how` needs, or if
            trusted ones have scores outside 0..1 or mostly boxes of negative size.
    """
    check_outputs(how, {name: values.shape for name, values in outputs.items()})
    read = {"boxes": _boxes, "nms": _finished, "centers": _centers, "yolo": _yolo}[how.kind]
    reader = _Reader(outputs, how, trusted)
    found = read(reader, how)
    solid = np.flatnonzero((found.boxes[:, 2:] > found.boxes[:, :2]).all(axis=1))
    if trusted and 2 * len(solid) < (found.scores > 0).sum():  # rows that fill up have none
        raise _decode_error(
            "most boxes have no positive size",
            'check model.task.decode.format; a "yolo" head must contain decoded boxes '
            "(export YOLOX with its decoding)",
        )
    similarity = rotated_boxes if how.rotated else box_overlaps
    overlap = 1.0 if how.kind == "nms" else how.overlap
    most = _MOST_DRAWN if how.masks else _MOST
    kept = suppress(found.pick(solid), overlap, most, similarity)
    if not how.masks:
        return kept
    return replace(kept, shapes=drawn_masks(kept, reader.get("masks"), how.stride))


class _Reader:
    """Outputs by key, as float64 without their batch axis, and their scores."""

    def __init__(self, outputs: Outputs, how: Decoding, trusted: bool) -> None:
        self._outputs = outputs
        self._how = how
        self._trusted = trusted

    def get(self, key: str) -> NDArray[np.float64]:
        """Return the output that a key of the decoding names; the first one for ""."""
        values = self._outputs[getattr(self._how, key) or next(iter(self._outputs))]
        return (values[0] if values.ndim > 2 and len(values) == 1 else values).astype(np.float64)

    def probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return scores 0..1; with a softmax, the last axis is that of the classes."""
        if self._how.softmax:
            return softmax(scores)
        if self._how.logits:
            return sigmoid(scores)
        low, high = (float(scores.min()), float(scores.max())) if scores.size else (0.0, 0.0)
        if self._trusted and (low < -_TOLERANCE or high > 1 + _TOLERANCE):
            raise _decode_error(
                f"the baseline's scores reach from {low:.4g} to {high:.4g}, not inside 0..1",
                "set logits (or softmax) = true if it is still to come; a head with more than boxes "
                "and scores needs masks, keypoints or rotated",
            )
        return scores


def _boxes(reader: _Reader, how: Decoding) -> Detections:
    """Read outputs (n, 4) and (n,), (n, classes) or (n, 1, ...), each possibly transposed."""
    boxes = reader.get("boxes")
    boxes = boxes.reshape(-1, 4) if boxes.shape[-1] == 4 else boxes.T
    scores = reader.get("scores")
    flat = scores.ndim > 1 and scores.shape[-1] == len(boxes) != scores.shape[-2]
    classes = scores.size // len(boxes) if len(boxes) else scores.shape[-1]
    shape = (classes, len(boxes)) if flat else (len(boxes), classes)
    scores = scores.reshape(shape).T if flat else scores.reshape(shape)
    scores = reader.probabilities(scores)[:, int(how.background) : classes - how.no_object]
    labels = reader.get("labels").ravel() if how.labels else None
    return _detections(boxes, scores, how, how.format, labels)


def _finished(reader: _Reader, how: Decoding) -> Detections:
    """Read rows (n, 6) of box, score and class, of which the last two may be outputs of their own."""
    rows = reader.get("boxes")
    if how.scores or how.labels:
        first = 4 if how.scores else 5
        scores = reader.get("scores").reshape(-1, 1) if how.scores else rows[:, 4:5]
        labels = reader.get("labels").reshape(-1, 1) if how.labels else np.zeros_like(scores)
        rows = np.concatenate([rows[:, :4], scores, labels, rows[:, first:]], axis=1)
    if how.count:
        rows = rows[: int(np.clip(np.rint(reader.get("count").item()), 0, len(rows)))]
    form = "cxcywh" if how.rotated else how.format
    scores = reader.probabilities(rows[:, 4:5])
    return _detections(rows[:, :4], scores, how, form, labels=rows[:, 5], beside=rows[:, ROW:])


def _yolo(reader: _Reader, how: Decoding) -> Detections:
    """Read one output (n, 4 + classes) or its transpose; the longer axis is that of the boxes.

    Of equal axes the last is that of the boxes, as in exports without objectness.
    """
    head = reader.get("boxes")
    head = head.T if head.shape[0] <= head.shape[1] else head
    channels, least = head.shape[1], 5 + how.objectness
    extras = how.extras(channels, least, reader.get("masks").shape if how.masks else None)
    scores = reader.probabilities(head[:, 4 : channels - extras])
    if how.objectness:
        scores = scores[:, 1:] * scores[:, :1]
    beside = head[:, channels - extras :]
    return _detections(head[:, :4], scores, how, "cxcywh", beside=beside)


def _centers(reader: _Reader, how: Decoding) -> Detections:
    """Read heat maps (classes, h, w), sizes and offsets (2, h, w), or all with channels last.

    Source: Zhou et al., "Objects as Points" (2019), section 4; the logarithm of the size, Xu et
        al., "CenterFace: Joint Face Detection and Alignment Using Face as Point" (2019).
    """
    heat, sizes = reader.probabilities(reader.get("scores")), reader.get("sizes")
    shifts = reader.get("offsets") if how.offsets else np.zeros_like(sizes)
    if sizes.shape[0] != 2 and sizes.shape[2] == 2:
        heat, sizes, shifts = (np.moveaxis(values, 2, 0) for values in (heat, sizes, shifts))
    label, row, place = np.unravel_index(_above_threshold(heat.ravel(), how.threshold), heat.shape)
    x, y = (0, 1) if how.order == "xy" else (1, 0)
    extent = np.stack([sizes[x, row, place], sizes[y, row, place]], axis=1)
    if how.size == "log":
        extent = np.exp(np.clip(extent, -_LARGEST_LOG, _LARGEST_LOG))
    elif how.size == "pixels":
        extent = extent / how.stride
    center = np.stack([place + shifts[x, row, place], row + shifts[y, row, place]], axis=1)
    boxes = _corners(np.concatenate([center + how.middle / 2, extent], axis=1))
    classes, height, width = heat.shape
    return Detections(
        boxes,
        heat[label, row, place],
        label.astype(np.int64),
        classes=classes,
        extent=(width, height),
    )


def _detections(
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    how: Decoding,
    form: str,
    labels: NDArray[np.float64] | None = None,
    beside: NDArray[np.float64] | None = None,
) -> Detections:
    """Return the boxes whose best class reaches the threshold, with what lies beside them."""
    best = scores.max(axis=1, initial=-_FAR)
    which = _above_threshold(best, how.threshold)
    if labels is not None:
        named = np.clip(np.rint(labels[which]), -_FAR, _FAR)
    else:
        named = scores[which].argmax(axis=1) if len(which) else np.zeros(0)
    kept = np.clip(boxes[which], -_FAR, _FAR)
    corners = (
        _corners(kept) if form == "cxcywh" else kept[:, [1, 0, 3, 2]] if form == "yxyx" else kept
    )
    shapes = np.zeros((0, 0)) if beside is None else np.clip(beside[which], -_FAR, _FAR)
    if how.rotated:
        shapes = np.concatenate([kept, shapes], axis=1)
        corners = _around(shapes)
    return Detections(
        corners,
        best[which],
        named.astype(np.int64),
        shapes,
        classes=scores.shape[1] if labels is None else None,
        extent=(1.0, 1.0) if how.unit == "fractions" else None,
    )


def _above_threshold(scores: NDArray[np.float64], threshold: float) -> NDArray[np.intp]:
    """Return the indices of scores that reach the threshold, at most those of the 3000 highest."""
    which = np.flatnonzero(scores >= threshold)
    if which.size > _MOST_RAW:
        which = which[np.argsort(-scores[which], kind="stable")[:_MOST_RAW]]
    return which


def _corners(centered: NDArray[np.float64]) -> NDArray[np.float64]:
    center, half = np.clip(centered[:, :2], -_FAR, _FAR), np.clip(centered[:, 2:], -_FAR, _FAR) / 2
    return np.concatenate([center - half, center + half], axis=1)


def _around(rotated: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upright boxes around boxes of centre, size and angle; empty of an empty one."""
    size, angle = rotated[:, 2:4], rotated[:, 4]
    turned = np.abs(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    extent = np.stack([(size * turned).sum(axis=1), (size * turned[:, ::-1]).sum(axis=1)], axis=1)
    extent[size.min(axis=1) <= 0] = 0
    return _corners(np.concatenate([rotated[:, :2], extent], axis=1))


def _decode_error(message: str, hint: str) -> ConfigError:
    return ConfigError(message, code="decode", hint=hint)
