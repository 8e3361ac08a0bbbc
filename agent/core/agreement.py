"""How often an engine decides what the baseline decides, in the terms of the task.

Each class takes one inference's outputs after the other and keeps only counts. The first output
of the model is the one judged; models with several put their main one first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import RunnerError

Outputs = Mapping[str, NDArray[Any]]
UserMetric = Callable[[Outputs, Outputs], float]
"""Called as metric(baseline outputs, engine outputs) per inference; 1 is full agreement."""

_TOP = 5
_CUTS = (0.5, 0.0)  # of probabilities, of logits


class Agreement(Protocol):
    """Accumulates over inferences."""

    def add(self, expected: Outputs, seen: Outputs) -> None:
        """Count one inference of the baseline and of the engine on the same input."""
        ...

    def result(self) -> dict[str, float]:
        """Return metrics by name, 0..1; the first is the one that a limit is compared with."""
        ...


def agreement(task: str, user_metric: UserMetric | None) -> tuple[Agreement | None, str]:
    """Return what judges a task, or None and why nothing does.

    Args:
        task: generic, classification, segmentation, detection or module:function.
        user_metric: The function that `module:function` named.
    """
    if user_metric is not None:
        return UserAgreement(task, user_metric), ""
    if task == "classification":
        return ClassificationAgreement(), ""
    if task == "segmentation":
        return SegmentationAgreement(), ""
    if task == "detection":
        return None, "the model card does not say how boxes are decoded from the outputs"
    return None, f"a {task} task has no agreement metric"


class ClassificationAgreement:
    """Share of rows with the baseline's class first, and how much of its top 5 is kept.

    Scores have shape (n, classes), with axes of length 1 anywhere behind n; further axes before
    the last are positions of a sequence. One score per row is a yes or no: probabilities (the
    baseline's never leave 0..1) are cut at 0.5, other values are logits and cut at 0. One
    integer per row is a class id. The top 5 of five classes or fewer says nothing and is left
    out.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._same = dict.fromkeys(_CUTS, 0)
        self._kept = 0
        self._probabilities = True
        self._top = False

    def add(self, expected: Outputs, seen: Outputs) -> None:
        """Count one inference; see `Agreement`."""
        reference, found = (_rows(_main(outputs)) for outputs in (expected, seen))
        self._rows += len(reference)
        if reference.shape[1] == 1:
            self._add_single(reference[:, 0], found[:, 0])
            return
        same = int((reference.argmax(1) == found.argmax(1)).sum())
        for cut in _CUTS:
            self._same[cut] += same
        if reference.shape[1] > _TOP:
            self._top = True
            best, others = (
                np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :_TOP]
                for scores in (reference, found)
            )
            self._kept += int((best[:, :, None] == others[:, None, :]).sum())

    def _add_single(self, reference: NDArray[Any], found: NDArray[Any]) -> None:
        ids = reference.dtype.kind in "iub"
        self._probabilities &= _within_one(reference)
        for cut in _CUTS:
            same = reference == found if ids else (reference > cut) == (found > cut)
            self._same[cut] += int(same.sum())

    def result(self) -> dict[str, float]:
        """Return top1 and, where it says something, top5."""
        cut = _CUTS[0] if self._probabilities else _CUTS[1]
        found = {"top1": self._same[cut] / self._rows}
        if self._top:
            found["top5"] = self._kept / (_TOP * self._rows)
        return found


class SegmentationAgreement:
    """Mean intersection over union of the baseline's classes and the engine's.

    Pixels are counted over all frames and the ratio is taken once, so a class that shows on few
    frames is not drowned by frames without it. Several channels are scores: the largest wins,
    and the mean is over the classes that either shows. One channel of integers holds class ids.
    One channel of floats is a map of the foreground, whose union alone counts: probabilities (the baseline's never leave
    0..1) are cut at 0.5, other values are logits and cut at 0. Where neither ever shows any
    foreground they agree fully.

    Source: Everingham et al., "The PASCAL Visual Object Classes Challenge" (IJCV 88, 2010).
    """

    def __init__(self) -> None:
        self._both: dict[float, Counter[int]] = {cut: Counter() for cut in _CUTS}
        self._either: dict[float, Counter[int]] = {cut: Counter() for cut in _CUTS}
        self._probabilities = True

    def add(self, expected: Outputs, seen: Outputs) -> None:
        """Count one inference; see `Agreement`."""
        reference, found = _main(expected), _main(seen)
        axis = _class_axis(reference.shape)
        if axis is not None:
            self._count(_CUTS, reference.argmax(axis), found.argmax(axis))
        elif reference.dtype.kind in "iub":
            self._count(_CUTS, reference, found)
        else:
            self._probabilities &= _within_one(reference)
            for cut in _CUTS:
                self._count((cut,), reference > cut, found > cut, background=False)

    def _count(
        self,
        cuts: tuple[float, ...],
        reference: NDArray[Any],
        found: NDArray[Any],
        background: bool = True,
    ) -> None:
        both, one, other = (
            _histogram(labels) for labels in (reference[reference == found], reference, found)
        )
        either = one + other - both
        if not background:
            del both[0], either[0]
        for cut in cuts:
            self._both[cut] += both
            self._either[cut] += either

    def result(self) -> dict[str, float]:
        """Return miou."""
        cut = _CUTS[0] if self._probabilities else _CUTS[1]
        either = self._either[cut]
        ratios = [self._both[cut][label] / pixels for label, pixels in either.items()]
        return {"miou": sum(ratios) / len(ratios) if ratios else 1.0}


class UserAgreement:
    """The mean of a user's own metric.

    Args:
        name: How it is reported, as the configuration names it.
        metric: The function.
    """

    def __init__(self, name: str, metric: UserMetric) -> None:
        self._name = name
        self._metric = metric
        self._sum = 0.0
        self._count = 0

    def add(self, expected: Outputs, seen: Outputs) -> None:
        """Count one inference; see `Agreement`.

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
        self._sum += float(value)
        self._count += 1

    def result(self) -> dict[str, float]:
        """Return the mean by the name of the function."""
        return {self._name: self._sum / self._count}


def _main(outputs: Outputs) -> NDArray[Any]:
    return next(iter(outputs.values()))


def _within_one(values: NDArray[Any]) -> bool:
    return bool(values.min() >= 0 and values.max() <= 1)


def _rows(scores: NDArray[Any]) -> NDArray[Any]:
    """Return shape (rows, classes): (1, 1000, 1, 1) is one row of 1000, (n, 1) n rows of one."""
    if scores.ndim < 2:
        return scores.reshape(1, -1)
    sizes = [size for size in scores.shape[1:] if size != 1]
    return scores.reshape(-1, sizes[-1] if sizes else 1)


def _class_axis(shape: tuple[int, ...]) -> int | None:
    """Return the axis of the class scores in (N, C, H, W) or (N, H, W, C); None for one channel.

    Where two of the three axes are equal they are taken for a square picture, else the smaller
    of the two possible axes is taken for the classes.
    """
    if len(shape) != 4 or min(shape[1], shape[3]) == 1:
        return None
    _, first, middle, last = shape
    if (first == middle) != (middle == last):
        return 3 if first == middle else 1
    return 1 if first <= last else 3


def _histogram(labels: NDArray[Any]) -> Counter[int]:
    values, counts = np.unique(labels, return_counts=True)
    return Counter(dict(zip(values.astype(int).tolist(), counts.tolist(), strict=True)))
