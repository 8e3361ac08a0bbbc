"""Whether what the baseline computes on frames of the camera can be right.

Wrong pixels (0..255 where 0..1 is meant, channels in another order) are no error to a graph. They
show in what it finds: nothing at all, one class for every picture, scores that are all 0 or 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.fidelity.agreement import UserMetric, make_agreement
from agent.core.fidelity.box_decoding import Outputs, decode
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.probabilities import sigmoid, softmax
from agent.core.fidelity.scores import first_output, score_rows, within_one

_SAME = 1e-5  # of the largest value of an output: less is the rounding of one machine
_EXTREME = 1e-6  # from 0 or 1
_SEVERAL = 2  # frames that can differ
_MANY = 8  # frames, of which a scene shows more than one class
_CLASSES = 3  # with two, one of them is often the rule


class Plausibility:
    """Accumulates over frames what makes the baseline suspicious, until nothing does.

    Args:
        task: As `model.task.kind`.
        decoding: Of a detector's outputs into boxes; None if not configured.
        user_metric: The function that `module:function` named; it is called with the baseline twice.
    """

    def __init__(
        self, task: str, decoding: Decoding | None, user_metric: UserMetric | None = None
    ) -> None:
        self._agreement, _ = make_agreement(task, user_metric, decoding)
        self._classifies = task == "classification"
        self._decoding = decoding if task == "detection" else None
        self._first: Outputs = {}
        self._constant = True
        self._extreme = True
        self._classes: set[int] | None = set() if self._classifies else None
        self._found = 0
        self._broken: dict[str, int] = {}
        self._unusable = 0
        self.frames = 0

    def add(self, outputs: Outputs) -> None:
        """Count one frame; on one with values that are not finite nothing else is looked at.

        Raises:
            ConfigError: "decode" if the numbers of a detector can't be boxes and scores.
            RunnerError: "user_metric" if the user's function returns anything but a number 0..1.
        """
        self.frames += 1
        broken = [
            name
            for name, values in outputs.items()
            if values.dtype.kind == "f" and not np.isfinite(values).all()
        ]
        for name in broken:
            self._broken[name] = self._broken.get(name, 0) + 1
        if broken:
            self._unusable += 1
            return
        self._first = self._first or outputs
        self._constant &= all(_same(values, self._first[name]) for name, values in outputs.items())
        if self._decoding is not None:
            scores = decode(outputs, self._decoding, trusted=True).scores
            self._found += bool(len(scores))
            self._extreme &= _is_extreme(scores)
        elif self._agreement is not None and first_output(outputs).size:
            self._agreement.add(outputs, outputs)
            self._found = self._agreement.judged
            if self._classifies:
                self._classify(score_rows(first_output(outputs)))

    def _classify(self, scores: NDArray[Any]) -> None:
        """Look at the classes of a picture: one row; several are positions, or of a batch."""
        ids = scores.dtype.kind in "iub"
        few = scores.shape[1] < _CLASSES or len(scores) > 1
        if few or self._classes is None:
            self._classes = None
        else:
            self._classes.add(int(scores[0].argmax()))
        self._extreme &= not ids and _is_extreme(_probabilities(scores.astype(np.float64)))

    @property
    def sound(self) -> bool:
        """Whether further frames can clear nothing more."""
        return self.frames >= _SEVERAL and not self._doubts(1)

    @property
    def hopeless(self) -> bool:
        """Whether no frame has finite values only, so that nothing can be judged."""
        return self._unusable == self.frames > 0

    def doubts(self) -> tuple[str, ...]:
        """Return what is suspicious, in words; empty if nothing is, or the frames are too few."""
        return tuple(self._doubts(_MANY))

    def _doubts(self, many: int) -> list[str]:
        found = [
            f"FP32's output {name} has NaN or infinite values on {count} of {self.frames} frames"
            for name, count in self._broken.items()
        ]
        if self.hopeless:
            return found
        if self._agreement is not None and not self._found:
            found.append(f"FP32 finds nothing in {self.frames} frames ({self._agreement.seen})")
        if self._constant:
            if self.frames >= _SEVERAL:
                found.append(f"FP32's outputs are the same on all {self.frames} frames")
            return found
        if self._found and self._extreme and (self._decoding or self._classifies):
            found.append(f"FP32's scores are all 0 or 1 on {self.frames} frames")
        if self._classes is not None and len(self._classes) == 1 and self.frames >= many:
            (name,) = self._classes
            found.append(f"FP32 names class {name} on all {self.frames} frames")
        return found


def _same(values: NDArray[Any], first: NDArray[Any]) -> bool:
    if values.shape != first.shape:
        return False
    if values.dtype.kind != "f" or not values.size:
        return bool(np.array_equal(values, first))
    largest = max(float(np.abs(values).max()), float(np.abs(first).max()))
    return bool(np.abs(values - first).max() <= _SAME * largest)


def _is_extreme(scores: NDArray[np.float64]) -> bool:
    """Return whether all scores are 0 or 1; true without any, which clears nothing."""
    return bool((np.minimum(np.abs(scores), np.abs(1 - scores)) <= _EXTREME).all())


def _probabilities(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the scores of rows of classes as probabilities; logits are what leaves 0..1."""
    if within_one(scores):
        return scores
    return sigmoid(scores) if scores.shape[1] == 1 else softmax(scores)
