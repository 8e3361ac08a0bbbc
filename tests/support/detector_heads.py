"""Small detectors with the heads of common exports, a few kilobytes each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from onnx import TensorProto

from agent.core.fidelity.decoding import Decoding
from tests.support.exported_graphs import Exported

SIDE = 96  # pixels; a picture has 12 x 12 cells of 8 pixels
_CELLS = 144
_CLASSES = 3
_ROWS = 20  # finished boxes

Write = Callable[[Exported, str], Mapping[str, int]]
"""Adds the nodes behind the features (1, 16, 12, 12); returns the outputs with their rank."""


def detector(name: str, folder: Path) -> str:
    """Write the detector of HEADS; its input is `image`, (1, 3, 96, 96)."""
    g = Exported(17)
    x = g.node("Relu", g.conv("image", 3, 8, step=4))
    x = g.node("Relu", g.conv(x, 8, 16, step=2))
    outputs = HEADS[name][0](g, x)
    return g.save(folder / "head.onnx", (1, 3, SIDE, SIDE), outputs)


def _branch(g: Exported, x: str, channels: int) -> str:
    """Return (1, channels, 144) of a convolution."""
    shape = g.constant(np.int64([1, channels, -1]))
    return g.node("Reshape", g.conv(x, 16, channels, side=1), shape)


def _number(g: Exported, operator: str, x: str, value: float) -> str:
    return g.node(operator, x, g.constant(np.float32(value)))


def _boxes(g: Exported, x: str, *, corners: bool = False) -> str:
    """Return (1, 4, 144) boxes in pixels around the cells, centre first unless corners."""
    rows, columns = np.divmod(np.arange(_CELLS), 12)
    cells = g.constant(np.float32(np.stack([columns, rows]) * 8 + 4)[None])
    center = g.node("Add", _number(g, "Mul", g.node("Tanh", _branch(g, x, 2)), 6), cells)
    size = _number(g, "Add", _number(g, "Mul", g.node("Sigmoid", _branch(g, x, 2)), 20), 6)
    if not corners:
        return g.node("Concat", center, size, axis=1)
    half = _number(g, "Mul", size, 0.5)
    return g.node("Concat", g.node("Sub", center, half), g.node("Add", center, half), axis=1)


def _logits(g: Exported, x: str, classes: int) -> str:
    """Return (1, classes, 144), a few of each class high."""
    found = _branch(g, x, classes)
    centered = g.node("Sub", found, g.node("ReduceMean", found, axes=[2]))
    return _number(g, "Sub", _number(g, "Mul", centered, 8), 3)


def _scores(g: Exported, x: str, classes: int = _CLASSES) -> str:
    return g.node("Sigmoid", _logits(g, x, classes))


def _rows_last(g: Exported, x: str, called: str = "") -> str:
    return g.node("Transpose", x, perm=[0, 2, 1], called=called)


def _yolo(g: Exported, x: str) -> Mapping[str, int]:
    return {g.node("Concat", _boxes(g, x), _scores(g, x), axis=1, called="output0"): 3}


def _yolo_with_objectness(g: Exported, x: str) -> Mapping[str, int]:
    sure = _scores(g, x, 1)
    head = g.node("Concat", _boxes(g, x), g.node("Sqrt", sure), _scores(g, x), axis=1)
    return {_rows_last(g, head, called="output0"): 3}


def _segment(g: Exported, x: str) -> Mapping[str, int]:
    beside = _branch(g, x, 4)
    head = g.node("Concat", _boxes(g, x), _scores(g, x), beside, axis=1, called="output0")
    scales = g.constant(np.float32([1, 1, 2, 2]))
    larger = g.node("Resize", x, "", scales, mode="nearest")
    masks = g.node("Identity", g.conv(larger, 16, 4, side=1), called="output1")
    return {head: 3, masks: 4}


def _pose(g: Exported, x: str) -> Mapping[str, int]:
    boxes = _boxes(g, x)
    center = g.node("Split", boxes, outputs=2, axis=1)
    points = [center, _scores(g, x, 1), f"{center}.1", _scores(g, x, 1)]
    return {g.node("Concat", boxes, _scores(g, x, 1), *points, axis=1, called="output0"): 3}


def _obb(g: Exported, x: str) -> Mapping[str, int]:
    angle = g.node("Tanh", _branch(g, x, 1))
    return {g.node("Concat", _boxes(g, x), _scores(g, x), angle, axis=1, called="output0"): 3}


def _best(g: Exported, x: str) -> tuple[str, str, str]:
    """Return the 20 best boxes (1, 20, 4), their scores and their classes (1, 20), by TopK."""
    scores = _scores(g, x)
    best = g.node("ReduceMax", scores, axes=[1], keepdims=0)
    labels = g.node("ArgMax", scores, axis=1, keepdims=0)
    values = g.node("TopK", best, g.constant(np.int64([_ROWS])), axis=1, outputs=2)
    place = f"{values}.1"
    labels = g.node("Cast", g.node("GatherElements", labels, place, axis=1), to=TensorProto.FLOAT)
    each = g.node("Unsqueeze", place, g.constant(np.int64([2])))
    four = g.node("Expand", each, g.constant(np.int64([1, _ROWS, 4])))
    boxes = _rows_last(g, _boxes(g, x, corners=True))
    return g.node("GatherElements", boxes, four, axis=1), values, labels


def _end_to_end(g: Exported, x: str) -> Mapping[str, int]:
    boxes, *columns = _best(g, x)
    last = [g.node("Unsqueeze", column, g.constant(np.int64([2]))) for column in columns]
    return {g.node("Concat", boxes, *last, axis=2, called="output0"): 3}


def _tensorflow(g: Exported, x: str) -> Mapping[str, int]:
    boxes, scores, labels = _best(g, x)
    turned = g.node("Gather", boxes, g.constant(np.int64([1, 0, 3, 2])), axis=2)
    sure = g.node("Greater", scores, g.constant(np.float32(0.3)))
    count = g.node("ReduceSum", g.node("Cast", sure, to=TensorProto.FLOAT),
                   g.constant(np.int64([1])), keepdims=0, called="num_detections")  # fmt: skip
    boxes = g.node("Div", turned, g.constant(np.float32(SIDE)), called="detection_boxes")
    labels = g.node("Add", labels, g.constant(np.float32(1)), called="detection_classes")
    scores = g.node("Identity", scores, called="detection_scores")
    return {boxes: 3, labels: 2, scores: 2, count: 1}


def _suppressed(g: Exported, x: str) -> Mapping[str, int]:
    """Write as torchvision does: as many rows as NonMaxSuppression leaves."""
    boxes, scores = _rows_last(g, _boxes(g, x, corners=True)), _scores(g, x)
    limits = (np.int64([10]), np.float32([0.5]), np.float32([0.25]))
    kept = g.node("NonMaxSuppression", boxes, scores, *map(g.constant, limits))
    places = g.node("Gather", kept, g.constant(np.int64([0, 2])), axis=1)
    boxes = g.node("GatherND", boxes, places, called="boxes")
    scores = g.node("GatherND", scores, kept, called="scores")
    label = g.node("Gather", kept, g.constant(np.int64(1)), axis=1)
    return {boxes: 2, scores: 1, g.node("Cast", label, to=TensorProto.FLOAT, called="labels"): 1}


def _queries(classes: int) -> Write:
    def write(g: Exported, x: str) -> Mapping[str, int]:
        logits = _rows_last(g, _logits(g, x, classes), called="logits")
        boxes = _number(g, "Div", _rows_last(g, _boxes(g, x)), SIDE)
        return {logits: 3, g.node("Identity", boxes, called="pred_boxes"): 3}

    return write


HEADS: dict[str, tuple[Write, Decoding]] = {
    "yolo": (_yolo, Decoding(kind="yolo")),
    "yolo with objectness": (_yolo_with_objectness, Decoding(kind="yolo", objectness=True)),
    "segment": (_segment, Decoding(kind="yolo", masks="output1")),
    "pose": (_pose, Decoding(kind="yolo", keypoints=2)),
    "obb": (_obb, Decoding(kind="yolo", rotated=True)),
    "end to end": (_end_to_end, Decoding(kind="nms")),
    "tensorflow": (
        _tensorflow,
        Decoding(
            kind="nms", boxes="detection_boxes", scores="detection_scores",
            labels="detection_classes", count="num_detections", format="yxyx",
        ),
    ),
    "nms inside": (
        _suppressed, Decoding(kind="nms", boxes="boxes", scores="scores", labels="labels"),
    ),
    "d-fine": (
        _queries(_CLASSES),
        Decoding(
            kind="boxes", boxes="pred_boxes", scores="logits", format="cxcywh", logits=True,
            overlap=1.0,
        ),
    ),
    "detr": (
        _queries(_CLASSES + 1),
        Decoding(
            kind="boxes", boxes="pred_boxes", scores="logits", format="cxcywh", softmax=True,
            no_object=True, overlap=1.0,
        ),
    ),
}  # fmt: skip
