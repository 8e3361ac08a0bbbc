"""Which holdout frames are shown, and what two engines find on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from agent.core.fidelity.box_decoding import Outputs
from agent.core.fidelity.comparison import Comparison
from agent.core.fidelity.detection_agreement import detected
from agent.core.fidelity.likeness import Likeness, likeness_of
from agent.core.fidelity.results import FrameSize, result_of
from agent.core.fidelity.task import Task
from agent.core.fidelity.views import view_of
from agent.core.frames.input_spec import InputSpec
from agent.core.records import Scene, View

SHOWN = 4  # frames
_MOST_PX = 640  # of the longer side of a map of classes


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
        made_in = _small(size) if self._task.kind == "segmentation" else size
        results = [result_of(one, self._task, self._spec, made_in) for one in outputs]
        found = (view_of(one, self._task, self._spec, size) for one in results)
        views = {name: view for name, view in zip(self._ids, found, strict=True) if view}
        likeness = likeness_of(self._task, outputs, results, self._comparison)
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


def _small(size: FrameSize) -> FrameSize:
    """Return the size of a map of classes: sorting the pixels of whole frames takes minutes."""
    scale = min(_MOST_PX / max(size.width, size.height), 1.0)
    return FrameSize(
        width=max(1, round(size.width * scale)), height=max(1, round(size.height * scale))
    )


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
