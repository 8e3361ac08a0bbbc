"""Agreement of an engine with the baseline, by a metric of the task.

Each class keeps a few counts per frame, so that frames can be resampled for an interval. Only the
first output of the model counts; models with several have their main one first.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from math import isfinite
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import RunnerError
from agent.core.fidelity.box_decoding import Outputs
from agent.core.fidelity.classification import ClassificationAgreement
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.detection_agreement import DetectionAgreement
from agent.core.fidelity.resampling import Counts, as_floats, each_frame_once, percent
from agent.core.fidelity.segmentation import SegmentationAgreement

UserMetric = Callable[[Outputs, Outputs], float]
"""Called as metric(baseline outputs, engine outputs) per frame; 1 is full agreement."""


class Agreement(Protocol):
    """Accumulates over frames."""

    seen: str
    """What the baseline sees on a frame that is judged, in words."""

    def add(self, expected: Outputs, seen: Outputs) -> None:
        """Add the outputs of the baseline and the engine for one frame."""
        ...

    @property
    def judged(self) -> int:
        """Number of frames on which the baseline sees something, so that they can be judged."""
        ...

    @property
    def threshold(self) -> float | None:
        """Score above which a class or a foreground counts that stands alone; None without one."""
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
    """Return the agreement metric of a task, or None and the reason.

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
    return DetectionAgreement(decoding), ""


class UserAgreement:
    """The mean of a user's own metric.

    Args:
        name: Its name in the configuration and in reports.
        metric: The function.
    """

    seen = "an output"
    threshold = None

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

    @property
    def judged(self) -> int:
        """Number of frames: only the function knows what they show."""
        return len(self._values)

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
