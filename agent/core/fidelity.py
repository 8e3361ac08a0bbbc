"""How near an engine's outputs are to the baseline's: streamed, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import RunnerError
from agent.core.lineage import Fidelity

Outputs = Mapping[str, NDArray[Any]]
UserMetric = Callable[[Outputs, Outputs], float]
"""Called as metric(baseline outputs, engine outputs) per frame; 1 is full agreement."""

_SILENT_DB = -300.0  # where the baseline is all zero and the engine is not


class Comparison:
    """Accumulates over frames; memory does not depend on their number.

    Args:
        task: generic, classification, segmentation, detection or module:function.
        user_metric: The function that `module:function` named.
    """

    def __init__(self, task: str, user_metric: UserMetric | None = None) -> None:
        self._task = task
        self._metric = user_metric
        self._signal: dict[str, float] = {}
        self._noise: dict[str, float] = {}
        self._dot: dict[str, float] = {}
        self._other: dict[str, float] = {}
        self._identical = True
        self._frames = 0
        self._sums: dict[str, float] = {}

    def add(self, baseline: Outputs, engine: Outputs) -> None:
        """Compare one frame's outputs.

        Raises:
            RunnerError: "not_finite" if the engine's outputs hold NaN or infinity.
        """
        self._frames += 1
        for name, expected in baseline.items():
            seen = engine[name]
            if not np.array_equal(expected, seen):
                self._identical = False
            reference = expected.astype(np.float64).ravel()
            found = seen.astype(np.float64).ravel()
            if not np.isfinite(found).all():
                raise RunnerError(f"output {name} holds NaN or infinity", code="not_finite")
            self._count(self._signal, name, float(reference @ reference))
            difference = reference - found
            self._count(self._noise, name, float(difference @ difference))
            self._count(self._dot, name, float(reference @ found))
            self._count(self._other, name, float(found @ found))
        for metric, value in self._task_metrics(baseline, engine).items():
            self._count(self._sums, metric, value)

    def result(self) -> Fidelity:
        """Return what the frames so far say.

        Raises:
            RunnerError: "no_frames" before the first frame.
        """
        if not self._frames:
            raise RunnerError("no held-out frame to compare on", code="no_frames")
        sqnr_db = {name: self._sqnr_db(name) for name in self._signal}
        finite = [value for value in sqnr_db.values() if value is not None]
        task = {name: value / self._frames for name, value in self._sums.items()}
        return Fidelity(
            sqnr_db=min(finite) if finite else None,
            identical=self._identical,
            cosine=min(self._cosine(name) for name in self._signal),
            per_output_sqnr_db=sqnr_db,
            task=task,
            agreement=next(iter(task.values()), None),
            frames=self._frames,
        )

    @staticmethod
    def _count(into: dict[str, float], name: str, value: float) -> None:
        into[name] = into.get(name, 0.0) + value

    def _sqnr_db(self, name: str) -> float | None:
        """Return 10 log10(signal / noise) over all frames; None without any noise."""
        if self._noise[name] == 0.0:
            return None
        if self._signal[name] == 0.0:
            return _SILENT_DB
        return float(10.0 * np.log10(self._signal[name] / self._noise[name]))

    def _cosine(self, name: str) -> float:
        if self._noise[name] == 0.0:
            return 1.0
        length = float(np.sqrt(self._signal[name] * self._other[name]))
        return self._dot[name] / length if length else 0.0

    def _task_metrics(self, baseline: Outputs, engine: Outputs) -> dict[str, float]:
        if self._metric is not None:
            return {self._task: float(self._metric(baseline, engine))}
        name = next(iter(baseline))
        if self._task == "classification":
            return classification(baseline[name], engine[name])
        if self._task == "segmentation":
            return {"miou": segmentation(baseline[name], engine[name])}
        return {}


def classification(expected: NDArray[Any], seen: NDArray[Any]) -> dict[str, float]:
    """Return top-1 agreement and the share of the baseline's top 5 that is kept.

    Args:
        expected: The baseline's scores, shape (n, classes) or (classes,).
        seen: The engine's, alike.
    """
    reference = expected.reshape(-1, expected.shape[-1])
    found = seen.reshape(-1, seen.shape[-1])
    top = min(5, reference.shape[1])
    first = float(np.mean(reference.argmax(1) == found.argmax(1)))
    best = np.argsort(-reference, axis=1, kind="stable")[:, :top]
    others = np.argsort(-found, axis=1, kind="stable")[:, :top]
    kept = [len(set(a.tolist()) & set(b.tolist())) / top for a, b in zip(best, others, strict=True)]
    return {"top1": first, "top5": float(np.mean(kept))}


def segmentation(expected: NDArray[Any], seen: NDArray[Any]) -> float:
    """Return the mean intersection over union of the baseline's mask and the engine's.

    One channel is a foreground map: probabilities (all within 0..1) are cut at 0.5, other
    values are logits and cut at 0. Several channels are classes: the largest wins, and the
    mean is over the classes that either mask shows. A class axis is found as the smaller of
    axis 1 (NCHW) and the last (NHWC). Masks that are both empty agree fully.
    """
    if expected.ndim == 4 and min(expected.shape[1], expected.shape[-1]) > 1:
        axis = 1 if expected.shape[1] <= expected.shape[-1] else 3
        reference, found = expected.argmax(axis), seen.argmax(axis)
        classes = np.union1d(np.unique(reference), np.unique(found))
        return float(np.mean([_iou(reference == c, found == c) for c in classes]))
    probabilities = expected.min() >= 0.0 and expected.max() <= 1.0
    cut = 0.5 if probabilities else 0.0
    return _iou(expected > cut, seen > cut)


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    union = int(np.logical_or(one, other).sum())
    return float(np.logical_and(one, other).sum() / union) if union else 1.0
