"""Agreement of an engine with the baseline, by a metric of the task.

Each class keeps a few counts per frame, so that frames can be resampled for an interval. Only the
first output of the model counts; models with several have their main one first.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from math import isfinite
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import RunnerError
from agent.core.fidelity.average_precision import DetectionAgreement
from agent.core.fidelity.box_decoding import Decoding, Outputs
from agent.core.fidelity.channel_groups import class_axis
from agent.core.fidelity.resampling import Counts, each_frame_once, percent

UserMetric = Callable[[Outputs, Outputs], float]
"""Called as metric(baseline outputs, engine outputs) per frame; 1 is full agreement."""
_TOP = 5
_CUTS = (0.5, 0.0)  # thresholds of probabilities, of logits
_MOST_CLASSES = 4096  # in one map; more are not class ids


class Agreement(Protocol):
    """Accumulates over frames."""

    def add(self, expected: Outputs, seen: Outputs) -> None:
        """Add the outputs of the baseline and the engine for one frame."""
        ...

    def value(self, counts: Counts) -> NDArray[np.float64]:
        """Return the metric that a limit is compared with, 0..1, for each resample of frames."""
        ...

    def metrics(self) -> dict[str, float]:
        """Return metrics by name, 0..1, over all frames; the first is that of `value`."""
        ...

    def summary(self) -> str:
        """Return what the engine does, in the words of the task."""
        ...


def make_agreement(
    task: str, user_metric: UserMetric | None, decoding: Decoding | None
) -> tuple[Agreement | None, str]:
    """Return the agreement metric of a task or None, and the reason if there is no value.

    Args:
        task: generic, classification, segmentation, detection or module:function.
        user_metric: The function that `module:function` named.
        decoding: Of a detector's outputs into boxes; None if not configured.
    """
    if user_metric is not None:
        return UserAgreement(task, user_metric), ""
    if task == "classification":
        return ClassificationAgreement(), ""
    if task == "segmentation":
        return SegmentationAgreement(), ""
    if task != "detection":
        return None, f"a {task} task has no agreement metric"
    if decoding is None:
        return None, "model.task.decode does not say how the outputs become boxes"
    return DetectionAgreement(decoding), (
        f"the FP32 baseline detects nothing with a score of {decoding.threshold:g} on any "
        "held-out frame"
    )


class ClassificationAgreement:
    """Share of rows with the baseline's top class, and share of its top 5 that is kept.

    Scores have shape (n, classes), with axes of length 1 anywhere after n; further axes before the
    last are positions of a sequence. One score per row is binary: probabilities (the baseline's are
    all in 0..1) have the threshold 0.5, logits 0. One integer per row is a class id. The top 5 of
    five classes or fewer is always equal and left out.
    """

    def __init__(self) -> None:
        self._rows = array("q")  # per frame, as all below
        self._same = {cut: array("q") for cut in _CUTS}
        self._kept = array("q")
        self._probabilities = True
        self._top = False

    def add(self, expected: Outputs, seen: Outputs) -> None:
        """Count one frame; see `Agreement`."""
        reference, found = (score_rows(first_output(outputs)) for outputs in (expected, seen))
        self._rows.append(len(reference))
        if reference.shape[1] == 1:
            self._add_single(reference[:, 0], found[:, 0])
            return
        same = int((reference.argmax(1) == found.argmax(1)).sum())
        for cut in _CUTS:
            self._same[cut].append(same)
        if reference.shape[1] > _TOP:
            self._top = True
            best, others = (
                np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :_TOP]
                for scores in (reference, found)
            )
            self._kept.append(int((best[:, :, None] == others[:, None, :]).sum()))

    def _add_single(self, reference: NDArray[Any], found: NDArray[Any]) -> None:
        ids = reference.dtype.kind in "iub"
        self._probabilities &= _within_one(reference)
        for cut in _CUTS:
            same = reference == found if ids else (reference > cut) == (found > cut)
            self._same[cut].append(int(same.sum()))

    def value(self, counts: Counts) -> NDArray[np.float64]:
        """Return the share of rows with the same top class."""
        cut = _CUTS[0] if self._probabilities else _CUTS[1]
        return resampled_ratio(counts, self._same[cut], self._rows)

    def metrics(self) -> dict[str, float]:
        """Return top1 and, with more than five classes, top5."""
        all_once = each_frame_once(len(self._rows))
        found = {"top1": float(self.value(all_once)[0])}
        if self._top:
            found["top5"] = float(resampled_ratio(all_once, self._kept, self._rows)[0]) / _TOP
        return found

    def summary(self) -> str:
        """Return the share with the same class, in words."""
        return f"names FP32's class {percent(self.metrics()['top1'])} of the time"


class SegmentationAgreement:
    """Mean intersection over union of the baseline's classes and the engine's.

    Pixels are counted over all frames before the ratio is taken, so frames without a class don't
    dilute it. Several channels are scores: the largest counts, and the mean is over the classes that
    occur in either. One channel of integers contains class ids. One channel of floats is a
    foreground map, of which only the foreground counts: probabilities (the baseline's are all in
    0..1) have the threshold 0.5, logits 0. Without any foreground in either, agreement is full.

    Source: Everingham et al., "The PASCAL Visual Object Classes Challenge" (IJCV 88, 2010).
    """

    def __init__(self) -> None:
        self._cells = {cut: _Cells() for cut in _CUTS}
        self._probabilities = True
        self._frame = 0

    def add(self, expected: Outputs, seen: Outputs) -> None:
        """Count one frame; see `Agreement`.

        Raises:
            RunnerError: "outputs" if a map of class ids contains thousands of different ones.
        """
        reference, found = first_output(expected), first_output(seen)
        axis = class_axis(reference.shape)
        if axis is not None:
            self._cells[_CUTS[0]].add(self._frame, reference.argmax(axis), found.argmax(axis))
        elif reference.dtype.kind in "iub":
            self._cells[_CUTS[0]].add(self._frame, reference, found)
        else:
            self._probabilities &= _within_one(reference)
            for cut in _CUTS:
                self._cells[cut].add(self._frame, reference > cut, found > cut, background=False)
        self._frame += 1

    def value(self, counts: Counts) -> NDArray[np.float64]:
        """Return the mean intersection over union."""
        cells = self._cells[_CUTS[0] if self._probabilities else _CUTS[1]]
        return np.array([cells.miou(times) for times in counts])

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


class UserAgreement:
    """The mean of a user's own metric.

    Args:
        name: Its name in the configuration and in reports.
        metric: The function.
    """

    def __init__(self, name: str, metric: UserMetric) -> None:
        self._name = name
        self._metric = metric
        self._values = array("d")

    def add(self, expected: Outputs, seen: Outputs) -> None:
        """Count one frame; see `Agreement`.

        Raises:
            RunnerError: "user_metric" if the function returns anything but a number 0..1.
        """
        value = self._metric(expected, seen)
        if not isinstance(value, (int, float, np.number)) or not isfinite(value):
            raise RunnerError(f"{self._name} returned {value!r}, not a number", code="user_metric")
        if not 0.0 <= float(value) <= 1.0:
            raise RunnerError(
                f"{self._name} returned {value}",
                code="user_metric",
                hint="the function must return an agreement from 0 to 1, 1 is full agreement",
            )
        self._values.append(float(value))

    def value(self, counts: Counts) -> NDArray[np.float64]:
        """Return the mean."""
        found: NDArray[np.float64] = counts @ as_floats(self._values) / counts.sum(axis=1)
        return found

    def metrics(self) -> dict[str, float]:
        """Return the mean by the name of the function."""
        return {self._name: float(self.value(each_frame_once(len(self._values)))[0])}

    def summary(self) -> str:
        """Return the mean in words."""
        return f"agrees with FP32 by {percent(self.metrics()[self._name])} in {self._name}"


def first_output(outputs: Outputs) -> NDArray[Any]:
    """Return the first output, the only one that counts."""
    return next(iter(outputs.values()))


def score_rows(scores: NDArray[Any]) -> NDArray[Any]:
    """Return shape (rows, classes): (1, 1000, 1, 1) is one row of 1000, (n, 1) n rows of one."""
    if scores.ndim < 2:
        return scores.reshape(1, -1)
    sizes = [size for size in scores.shape[1:] if size != 1]
    return scores.reshape(-1, sizes[-1] if sizes else 1)


def as_floats(values: array[int] | array[float]) -> NDArray[np.float64]:
    """Return counts per frame as float64."""
    return np.asarray(values, np.float64)


def resampled_ratio(counts: Counts, part: array[int], whole: array[int]) -> NDArray[np.float64]:
    """Return part / whole, both summed over frames, for each resample."""
    found: NDArray[np.float64] = counts @ as_floats(part) / (counts @ as_floats(whole))
    return found


def _within_one(values: NDArray[Any]) -> bool:
    return bool(values.min() >= 0 and values.max() <= 1)


def _histogram(labels: NDArray[Any]) -> dict[int, int]:
    values, counts = np.unique(labels, return_counts=True)
    if values.size > _MOST_CLASSES:
        raise RunnerError(
            f"a map contains {values.size} different class ids",
            code="outputs",
            hint='model.task.kind = "segmentation" needs scores or class ids as the first output',
        )
    return dict(zip(values.astype(int).tolist(), counts.tolist(), strict=True))
