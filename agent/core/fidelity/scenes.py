"""Which holdout frames are shown, and what two engines find on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agent.core.fidelity.box_decoding import Outputs, decode
from agent.core.fidelity.box_matching import THRESHOLDS, assigned
from agent.core.fidelity.comparison import Comparison
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.detection_agreement import detected
from agent.core.fidelity.results import Classes, ClassMap, FrameSize, Result, result_of
from agent.core.fidelity.similarity import similarity_of
from agent.core.fidelity.task import Task
from agent.core.fidelity.views import view_of
from agent.core.frames.input_spec import InputSpec
from agent.core.records import Scene, View

SHOWN = 4  # frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How alike two results on one frame are.

    Attributes:
        words: For people; without the names of the two.
        distance: 0 for equal results, in the task's own unit.
        seen: Whether the baseline finds anything.
    """

    words: str
    distance: float
    seen: bool = True


class Gallery:
    """Keeps what two engines find on each frame, and chooses the frames that are shown.

    Args:
        task: Of the model.
        spec: Its input, with its size.
        baseline: Id of the baseline's candidate.
        other: Id of the candidate beside it; None to show the baseline alone.
        comparison: Returns an empty one, which is used where outputs can't be drawn.
    """

    def __init__(
        self,
        task: Task,
        spec: InputSpec,
        baseline: str,
        other: str | None,
        comparison: Callable[[], Comparison],
    ) -> None:
        self._task = task
        self._spec = spec
        self._ids = [baseline] if other is None else [baseline, other]
        self._comparison = comparison
        self._frames: list[tuple[Scene, Likeness]] = []

    def add(self, frame: str, size: FrameSize, outputs: Sequence[Outputs]) -> None:
        """Add the results on one frame.

        Args:
            frame: Its name; names are in the order of capture.
            size: Of the frame.
            outputs: The baseline's, and those of the other engine if there is one.
        """
        results = [result_of(one, self._task, self._spec, size) for one in outputs]
        found = (view_of(one, self._task, self._spec, size) for one in results)
        views = {name: view for name, view in zip(self._ids, found, strict=True) if view}
        likeness = self._likeness(outputs[0], outputs[-1], results[0], results[-1])
        words = [self._counts(views), likeness.words if len(outputs) > 1 else "nothing beside it"]
        scene = Scene(
            frame=frame,
            width=size.width,
            height=size.height,
            words=", ".join(filter(None, words)),
            views=views,
        )
        self._frames.append((scene, likeness))

    def shown(self) -> tuple[Scene, ...]:
        """Return the frame with the most different results, and others spread over the rest.

        Frames on which the baseline finds something come before the others.
        """
        frames = sorted(self._frames, key=lambda one: one[0].frame)
        picked = picked_frames(
            [likeness.distance for _, likeness in frames], [likeness.seen for _, likeness in frames]
        )
        return tuple(frames[index][0] for index in picked)

    def _counts(self, views: Mapping[str, View]) -> str:
        """Return how many objects each finds, as in "fp32 3 boxes, int8-mixed 2"; else ""."""
        if self._task.kind != "detection" or self._task.decoding is None:
            return ""
        what, counts = detected(self._task.decoding), [view.count for view in views.values()]
        plural = "" if counts[0] == 1 else "es" if what.endswith("x") else "s"
        first, *rest = (f"{name} {view.count}" for name, view in views.items())
        return ", ".join([f"{first} {what}{plural}", *rest])

    def _likeness(
        self, expected: Outputs, seen: Outputs, first: Result, second: Result
    ) -> Likeness:
        if self._task.kind == "detection" and self._task.decoding is not None:
            return _objects(expected, seen, self._task.decoding)
        if isinstance(first, Classes) and isinstance(second, Classes):
            return _classes(first, second)
        if isinstance(first, ClassMap) and isinstance(second, ClassMap):
            return _areas(first, second, foreground=self._task.threshold is not None)
        return _numbers(expected, seen, self._comparison())


def _objects(expected: Outputs, seen: Outputs, how: Decoding) -> Likeness:
    """Compare objects of one class with each other, those that are the same by COCO's lowest rule."""
    baseline, engine = decode(expected, how), decode(seen, how)
    overlaps: list[float] = []
    if len(baseline) and len(engine):
        same = engine.labels[:, None] == baseline.labels[None, :]
        overlap = np.where(same, similarity_of(how)(engine, baseline), 0.0)
        chosen = assigned(overlap, THRESHOLDS[0])
        rows = np.flatnonzero(chosen >= 0)
        overlaps = overlap[rows, chosen[rows]].tolist()
    lost, invented = len(baseline) - len(overlaps), len(engine) - len(overlaps)
    every = len(overlaps) + lost + invented
    measure = "overlap" if how.rotated else "likeness" if how.keypoints else "IoU"
    words = [
        f"worst {measure} {min(overlaps):.2f}" if overlaps else "",
        f"{lost} lost" if lost else "",
        f"{invented} invented" if invented else "",
    ]
    return Likeness(
        words=", ".join(filter(None, words)),
        distance=1 - sum(overlaps) / every if every else 0.0,
        seen=len(baseline) > 0,
    )


def _classes(first: Classes, second: Classes) -> Likeness:
    same = np.atleast_2d(first.labels)[:, 0] == np.atleast_2d(second.labels)[:, 0]
    apart = 0.0
    if first.scores is not None and second.scores is not None:
        best, other = (np.atleast_2d(one)[:, 0] for one in (first.scores, second.scores))
        apart = float((np.abs(best - other) / np.maximum(np.abs(best) + np.abs(other), 1e-9)).max())
    words = "the same class" if same.all() else "another class"
    if len(same) > 1:
        words = f"the same class in {int(same.sum())} of {len(same)} places"
    return Likeness(words=words, distance=float((~same).mean()) + apart / 2)


def _areas(first: ClassMap, second: ClassMap, *, foreground: bool) -> Likeness:
    classes = [one for one in sorted(first.names | second.names) if one or not foreground]
    overlaps = []
    for one in classes:
        mine, other = first.labels == one, second.labels == one
        overlaps.append(float((mine & other).sum()) / float((mine | other).sum()))
    mean = sum(overlaps) / len(overlaps) if overlaps else 1.0
    words = f"{'mean ' * (len(overlaps) > 1)}IoU {mean:.2f}" if overlaps else "nothing found"
    seen = any(first.names) if foreground else len(first.names) > 1
    return Likeness(words=words, distance=1 - mean, seen=seen)


def _numbers(expected: Outputs, seen: Outputs, compared: Comparison) -> Likeness:
    """Compare outputs that can't be drawn: by the user's metric, else by SQNR."""
    compared.add(expected, seen)
    metric = compared.agreement_by_frame()
    if metric:
        return Likeness(words=f"agreement {metric[0]:.3f}", distance=1 - metric[0])
    sqnr = compared.sqnr_db()
    if sqnr is None:
        return Likeness(words="the same outputs", distance=0.0)
    return Likeness(words=f"SQNR {sqnr:.1f} dB", distance=10 ** (-sqnr / 20))


def picked_frames(distances: Sequence[float], seen: Sequence[bool]) -> list[int]:
    """Return the indices of the frames that are shown, in order.

    The first is the one of the largest distance. Each next one is the farthest, in the order of
    capture, from those that were taken.
    """
    if not distances:
        return []
    taken = [max(range(len(distances)), key=lambda one: distances[one])]
    for wanted in (True, False):
        rest = [one for one in range(len(seen)) if seen[one] is wanted and one not in taken]
        while rest and len(taken) < SHOWN:
            far = max(rest, key=lambda one: min(abs(one - other) for other in taken))
            taken.append(far)
            rest.remove(far)
    return sorted(taken)
