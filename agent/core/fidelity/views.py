"""What an engine finds on one frame, to be drawn over it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.core.fidelity.outlines import Area, outline
from agent.core.fidelity.results import Classes, ClassMap, FrameSize, Objects, Result
from agent.core.fidelity.task import Task
from agent.core.frames.input_spec import InputSpec
from agent.core.frames.preprocess import unplaced
from agent.core.records import Finding, View

_MOST_DRAWN = 20  # objects on a small picture
_TOP = 3  # classes of a classifier
_MOST_AREAS = 6  # classes of a segmentation
_BACKGROUND = ("background", "__background__", "bg")
_VISIBLE = 0.5


def view_of(result: Result, task: Task, spec: InputSpec, frame: FrameSize) -> View | None:
    """Return what a result shows on its frame; None if the task gives it no meaning to draw.

    Args:
        result: Of `results.result_of`.
        task: What it means.
        spec: How the frame became the model's input.
        frame: Its size.
    """
    if isinstance(result, Objects):
        return _objects(result, task, spec, frame)
    if isinstance(result, Classes):
        return _classes(result, task)
    if isinstance(result, ClassMap):
        return _areas(result, task, frame)
    return None


def _objects(found: Objects, task: Task, spec: InputSpec, frame: FrameSize) -> View:
    ends = np.array([(0.0, 0.0), (spec.width, spec.height)])
    (left, top), (right, bottom) = unplaced(ends, spec, frame.width, frame.height).tolist()
    findings = []
    for index in range(min(len(found), _MOST_DRAWN)):
        corners = found.boxes[index][[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)
        points = np.zeros((0, 3)) if found.points is None else found.points[index]
        shown = points[:, 2] >= _VISIBLE if points.shape[1] == 3 else slice(None)
        findings.append(
            Finding(
                name=_name(task, int(found.labels[index])),
                score=float(found.scores[index]),
                box=_pairs(corners if found.corners is None else found.corners[index]),
                mask=outline(found.masks.cells[index], (left, top, right, bottom))
                if found.masks
                else "",
                points=_pairs(points[shown, :2]),
            )
        )
    return View(findings=tuple(findings), count=len(found))


def _classes(found: Classes, task: Task) -> View:
    """Return the best classes; of several rows, as those of a sequence, those of the first."""
    labels = np.atleast_2d(found.labels)[0].tolist()
    scores = [None] * len(labels) if found.scores is None else np.atleast_2d(found.scores)[0]
    findings = tuple(
        Finding(name=_name(task, label), score=None if score is None else float(score))
        for label, score in list(zip(labels, scores, strict=True))[:_TOP]
    )
    return View(findings=findings, count=len(findings))


def _areas(found: ClassMap, task: Task, frame: FrameSize) -> View:
    """Return the classes by their share of the frame; the background, or the largest, is not drawn."""
    values, counts = np.unique(found.labels, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    foreground = task.threshold is not None
    ground = foreground or (bool(task.names) and task.names[0].lower() in _BACKGROUND)
    shown = [index for index in order.tolist() if values[index] or not ground]
    area: Area = (0.0, 0.0, float(frame.width), float(frame.height))
    findings = []
    for index in shown[:_MOST_AREAS]:
        label = int(values[index])
        name = "foreground" if foreground and len(task.names) < 2 else _name(task, label)
        drawn = ground or index != order[0]
        findings.append(
            Finding(
                name=f"{name} {100 * counts[index] / found.labels.size:.0f}%",
                mask=outline(found.labels == label, area) if drawn else "",
            )
        )
    return View(findings=tuple(findings), count=len(shown))


def _name(task: Task, label: int) -> str:
    return task.name(label) if 0 <= label < len(task.names) else f"class {label}"


def _pairs(points: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    return tuple((round(x, 1), round(y, 1)) for x, y in points.tolist())
