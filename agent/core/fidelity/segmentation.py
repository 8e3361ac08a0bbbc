"""Agreement of a segmentation: the overlap of its masks."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import RunnerError
from agent.core.fidelity.box_decoding import Outputs
from agent.core.fidelity.channel_groups import class_axis
from agent.core.fidelity.resampling import Counts, as_floats, each_frame_once, percent
from agent.core.fidelity.scores import CUTS, first_output, rounding, within_one

_MOST_CLASSES = 4096  # in one map; more are not class ids


class SegmentationAgreement:
    """Mean intersection over union of the baseline's classes and the engine's.

    Pixels are counted over all frames before the ratio is taken, so frames without a class don't
    dilute it. Several channels are scores: the largest counts, and the mean is over the classes that
    occur in either. One channel of integers contains class ids. One channel of floats is a
    foreground map, of which only the foreground counts: probabilities (the baseline's are all in
    0..1) have the threshold 0.5, logits 0. Pixels at which the baseline is undecided but for rounding
    agree. A frame is judged if the baseline shows a foreground or two classes; what the engine shows
    on other frames counts as well.

    Source: Everingham et al., "The PASCAL Visual Object Classes Challenge" (IJCV 88, 2010).
    """

    seen = "a mask"

    def __init__(self) -> None:
        self._cells = {cut: _Cells() for cut in CUTS}
        self._shown = dict.fromkeys(CUTS, 0)
        self._probabilities = True
        self._frame = 0
        self._foreground = False

    def add(self, expected: Outputs, seen: Outputs) -> None:
        """Count one frame; see `Agreement`.

        Raises:
            RunnerError: "outputs" if a map of class ids contains thousands of different ones.
        """
        reference, found = first_output(expected), first_output(seen)
        axis = class_axis(reference.shape)
        if axis is None and reference.dtype.kind not in "iub":
            self._foreground = True
            self._probabilities &= within_one(reference)
            for cut in CUTS:
                mask, other = reference > cut, found > cut
                decided = np.abs(reference - cut) > rounding(reference)
                self._shown[cut] += bool((mask & decided).any())
                agreed = np.where(decided, other, mask)
                self._cells[cut].add(self._frame, mask, agreed, background=False)
        else:
            labels, others = (reference, found) if axis is None else _labels(reference, found, axis)
            self._cells[CUTS[0]].add(self._frame, labels, others)
            self._shown[CUTS[0]] += bool((labels != labels.flat[0]).any())
        self._frame += 1

    @property
    def _cut(self) -> float:
        return CUTS[0] if self._probabilities else CUTS[1]

    @property
    def threshold(self) -> float | None:
        """Value above which a pixel is foreground; None where classes compete or ids are given."""
        return self._cut if self._foreground else None

    @property
    def judged(self) -> int:
        """Number of frames on which the baseline shows a foreground or two classes."""
        return self._shown[self._cut]

    def value(self, counts: Counts) -> NDArray[np.float64]:
        """Return the mean intersection over union."""
        return np.array([self._cells[self._cut].miou(times) for times in counts])

    def metrics(self) -> dict[str, float]:
        """Return miou."""
        return {"miou": float(self.value(each_frame_once(self._frame))[0])}

    def summary(self) -> str:
        """Return the overlap in words."""
        return f"overlaps {percent(self.metrics()['miou'])} of FP32's masks (mean IoU)"


class _Cells:
    """Pixels of each class on each frame, without zeros."""

    def __init__(self) -> None:
        self._frame = array("q")
        self._label = array("q")
        self._both = array("q")
        self._either = array("q")

    def add(
        self, frame: int, reference: NDArray[Any], found: NDArray[Any], background: bool = True
    ) -> None:
        both, one, other = (
            _histogram(labels) for labels in (reference[reference == found], reference, found)
        )
        for label in sorted(one.keys() | other.keys()):
            if label or background:
                shared = both.get(label, 0)
                self._frame.append(frame)
                self._label.append(label)
                self._both.append(shared)
                self._either.append(one.get(label, 0) + other.get(label, 0) - shared)

    def miou(self, times: NDArray[np.float64]) -> float:
        """Return the mean over the classes on the frames, each counted `times` times."""
        if not self._frame:
            return 1.0
        _, label = np.unique(np.asarray(self._label), return_inverse=True)
        weight = times[np.asarray(self._frame)]
        both = np.bincount(label, weight * as_floats(self._both))
        either = np.bincount(label, weight * as_floats(self._either))
        shown = either > 0
        return float((both[shown] / either[shown]).mean()) if shown.any() else 1.0


def _labels(
    reference: NDArray[Any], found: NDArray[Any], axis: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the classes of both, the baseline's where it is undecided between the two."""
    mine, other = (np.expand_dims(scores.argmax(axis), axis) for scores in (reference, found))
    best, taken = (np.take_along_axis(reference, one, axis) for one in (mine, other))
    agreed = np.where(taken >= best - rounding(best), mine, other)
    return mine, agreed


def _histogram(labels: NDArray[Any]) -> dict[int, int]:
    values, counts = np.unique(labels, return_counts=True)
    if values.size > _MOST_CLASSES:
        raise RunnerError(
            f"a map contains {values.size} different class ids",
            code="outputs",
            hint='model.task.kind = "segmentation" needs scores or class ids as the first output',
        )
    return dict(zip(values.astype(int).tolist(), counts.tolist(), strict=True))
