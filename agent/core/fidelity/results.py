"""What a model sees on a frame, in pixels of the frame; decoded as when it was judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import RunnerError
from agent.core.fidelity.box_decoding import Outputs, decode
from agent.core.fidelity.channel_groups import class_axis
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.detection import Detections
from agent.core.fidelity.scores import first_output, score_rows
from agent.core.fidelity.task import Task
from agent.core.frames.input_spec import InputSpec
from agent.core.frames.preprocess import placement, unplaced

_TOP = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSize:
    """Size of a frame, px."""

    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """Masks of objects, each made in the size of the frame when it is asked for.

    Attributes:
        cells: Shape (n, h, w), bool, over the model's input.
    """

    cells: NDArray[np.bool_]
    spec: InputSpec
    frame: FrameSize

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, index: int) -> NDArray[np.bool_]:
        return over_frame(self.cells[index], self.spec, self.frame)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """Objects of a detector, the best first.

    Attributes:
        boxes: Shape (n, 4), float64: left, top, right, bottom, px of the frame; of a rotated box
            the upright box around it.
        scores: Shape (n,), 0..1.
        labels: Shape (n,), class ids.
        names: Of their classes; a class without a name has its number.
        corners: Of rotated boxes, shape (n, 4, 2), px of the frame; else None.
        points: Of poses, shape (n, points, 2 or 3): x, y in px of the frame and, if 3, the
            visibility; else None.
        masks: Of masks, by the number of the object; else None.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    corners: NDArray[np.float64] | None = None
    points: NDArray[np.float64] | None = None
    masks: Masks | None = None

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """Classes of a classifier, the best five first; several rows are those of a sequence.

    Attributes:
        labels: Shape (k,), or (rows, k) of several rows: class ids. Of a single score 1 above the
            threshold, else 0.
        scores: As the model gives them, alike in shape; None if it gives class ids.
        names: Of the labels, in their order.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float64] | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMap:
    """The class of each pixel.

    Attributes:
        labels: Shape (height, width) of the frame, int32; of a foreground 1, else 0.
        names: Of the classes that occur, by their id.
    """

    labels: NDArray[np.int32]
    names: dict[int, str]


Result = Objects | Classes | ClassMap | dict[str, NDArray[Any]]
"""Of a task without decoding the outputs themselves, by name."""


def result_of(
    outputs: Outputs, task: Task, spec: InputSpec, frame: FrameSize, *, trusted: bool = False
) -> Result:
    """Return what the outputs for one frame show.

    Args:
        outputs: Of one frame, their first axis 1 where it is the batch.
        task: What they mean.
        spec: How the frame became the model's input.
        frame: Its size.
        trusted: See `box_decoding.decode`.

    Raises:
        ConfigError: "decode" if outputs don't fit the decoding.
        RunnerError: "outputs" if they are no classes or no map of them.
    """
    if task.kind == "detection" and task.decoding is not None:
        found = decode(outputs, task.decoding, trusted=trusted)
        return _objects(found, outputs, task, task.decoding, spec, frame)
    if task.kind == "classification":
        return _classes(score_rows(first_output(outputs)), task)
    if task.kind == "segmentation":
        return _class_map(first_output(outputs), task, spec, frame)
    return dict(outputs)


def over_frame(cells: NDArray[Any], spec: InputSpec, frame: FrameSize) -> NDArray[Any]:
    """Return a map over the model's input as one over the frame, by the cell under each pixel.

    Args:
        cells: Shape (h, w), over the whole input.
        spec: How the frame became the input.
        frame: Its size.
    """
    at = placement(spec, frame.width, frame.height)
    rows = _cells(frame.height, at.top, at.height, spec.height, cells.shape[0])
    columns = _cells(frame.width, at.left, at.width, spec.width, cells.shape[1])
    return np.ascontiguousarray(cells[rows[:, None], columns[None, :]])


def _cells(pixels: int, begin: int, length: int, side: int, count: int) -> NDArray[np.intp]:
    """Return the cell under the middle of each pixel along one side of the frame."""
    middles = begin + (np.arange(pixels) + 0.5) * (length / pixels)
    return np.clip((middles * (count / side)).astype(np.intp), 0, count - 1)


def _objects(
    found: Detections,
    outputs: Outputs,
    task: Task,
    how: Decoding,
    spec: InputSpec,
    frame: FrameSize,
) -> Objects:
    size = np.array([spec.width, spec.height], np.float64)
    unit = size / found.extent if found.extent else np.ones(2)
    corners = points = masks = None
    if how.rotated:
        corners = unplaced(_corners(found.shapes) * unit, spec, frame.width, frame.height)
    elif how.masks:
        grid = outputs[how.masks].shape[-2:]
        masks = Masks(cells=found.shapes.reshape(len(found), *grid), spec=spec, frame=frame)
    elif how.keypoints:
        numbers = found.shapes.shape[1] // how.keypoints
        points = found.shapes.reshape(len(found), how.keypoints, numbers).astype(np.float64)
        points[..., :2] = unplaced(points[..., :2] * unit, spec, frame.width, frame.height)
    boxes = unplaced(found.boxes.reshape(-1, 2, 2) * unit, spec, frame.width, frame.height)
    boxes = np.clip(boxes, 0, [frame.width, frame.height])
    return Objects(
        boxes=boxes.reshape(-1, 4),
        scores=found.scores,
        labels=found.labels,
        names=tuple(task.name(label) for label in found.labels.tolist()),
        corners=corners,
        points=points,
        masks=masks,
    )


def _corners(rotated: NDArray[Any]) -> NDArray[np.float64]:
    """Return the corners of boxes of centre, size and angle, shape (n, 4, 2), in their order."""
    x, y, width, height, angle = rotated[:, :5].astype(np.float64).T
    cosine, sine = np.cos(angle) / 2, np.sin(angle) / 2
    along = np.stack([width * cosine, width * sine], axis=1)
    across = np.stack([-height * sine, height * cosine], axis=1)
    middle = np.stack([x, y], axis=1)
    return np.stack(
        [
            middle - along - across,
            middle + along - across,
            middle + along + across,
            middle - along + across,
        ],
        axis=1,
    )


def _classes(rows: NDArray[Any], task: Task) -> Classes:
    if rows.shape[1] == 1:
        if rows.dtype.kind in "iub":
            labels, scores = rows.astype(np.int64), None
        else:
            scores = rows.astype(np.float64)
            labels = (scores > _threshold(task)).astype(np.int64)
    else:
        scores = rows.astype(np.float64)
        labels = np.argsort(-scores, axis=1, kind="stable")[:, :_TOP].astype(np.int64)
        scores = np.take_along_axis(scores, labels, axis=1)
    names = tuple(task.name(label) for label in labels.ravel().tolist())
    if len(labels) == 1:
        labels, scores = labels[0], None if scores is None else scores[0]
    return Classes(labels=labels, scores=scores, names=names)


def _class_map(values: NDArray[Any], task: Task, spec: InputSpec, frame: FrameSize) -> ClassMap:
    axis = class_axis(values.shape)
    if axis is not None:
        cells = values.argmax(axis)[0]
    else:
        sides = [side for side in values.shape if side != 1]
        if len(sides) > 2:
            raise RunnerError(
                f"an output of shape {list(values.shape)} is no map of classes", code="outputs"
            )
        cells = values.reshape(values.shape[-2:] if len(sides) < 2 else sides)
        if values.dtype.kind not in "iub":
            cells = cells > _threshold(task)
    labels = over_frame(cells.astype(np.int32), spec, frame)
    return ClassMap(
        labels=labels, names={label: task.name(label) for label in np.unique(labels).tolist()}
    )


def _threshold(task: Task) -> float:
    if task.threshold is None:
        raise RunnerError(
            "a score that stands alone has no threshold: it was never judged",
            code="outputs",
            hint="`quantd optimize` again",
        )
    return task.threshold
