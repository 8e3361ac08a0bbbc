"""Agreement of a detector: average precision with the baseline's boxes as the true ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from agent.core.fidelity.average_precision import AveragePrecision
from agent.core.fidelity.box_decoding import Outputs, decode
from agent.core.fidelity.box_matching import THRESHOLDS, assigned
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.detection import Detections
from agent.core.fidelity.resampling import Counts, percent
from agent.core.fidelity.scores import ROUNDING, rounding
from agent.core.fidelity.similarity import similarity_of

_HAIR = 2 * ROUNDING  # of the threshold: the baseline's scores are moved by one rounding already


class DetectionAgreement:
    """Average precision of the engine's boxes with the baseline's as ground truth.

    A frame without a box of the baseline is not judged, but false boxes on it count. Both use the
    same decoding and threshold, so a box whose score falls below it is lost. All classes share one
    curve, so that a class that the baseline never detects counts against the engine. Rotated boxes,
    masks and poses are matched by their own overlap. Where the baseline decides by less than float16
    rounds (a score at the threshold, an overlap at the limit of suppression), the engine decides.
    """

    threshold = None  # that of the decoding is known already

    def __init__(self, decoding: Decoding) -> None:
        what = detected(decoding)
        self.seen = f"a {what} with a score of {decoding.threshold:g}"
        self._objects = f"{what}es" if what.endswith("x") else f"{what}s"
        self._decoding = decoding
        self._wider = replace(decoding, threshold=decoding.threshold * (1 - _HAIR))
        self._similarity = similarity_of(decoding)
        self._precision = AveragePrecision(pooled=True, similarity=self._similarity)
        self._judged = 0

    def add(self, expected: Outputs, seen: Outputs) -> None:
        """Count one frame; see `agreement.Agreement`."""
        found = decode(seen, self._decoding)
        near = decode(_nearest(expected, seen), self._wider, trusted=True)
        clear = near.scores > self._decoding.threshold * (1 + _HAIR)
        self._precision.add(found, near.pick(np.flatnonzero(clear | self._also(near, found))))
        self._judged += bool(clear.any())

    def _also(self, near: Detections, found: Detections) -> NDArray[np.bool_]:
        """Return which of the baseline's detections the engine has, too, each for one of its own."""
        both = np.zeros(len(near), bool)
        if len(found) and len(near):
            same = found.labels[:, None] == near.labels[None, :]
            chosen = assigned(np.where(same, self._similarity(found, near), 0.0), THRESHOLDS[0])
            both[chosen[chosen >= 0]] = True
        return both

    @property
    def judged(self) -> int:
        """Number of frames on which the baseline detects something by more than rounding."""
        return self._judged

    def value(self, counts: Counts) -> NDArray[np.float64]:
        """Return the average precision at an overlap of 0.5 for each resample."""
        return self._precision.value(counts)

    def metrics(self) -> dict[str, float]:
        """Return ap50 and ap50_95, the mean over all thresholds; empty without true boxes."""
        return self._precision.metrics()

    def summary(self) -> str:
        """Return how many objects are found and how many are false, at an overlap of 0.5."""
        found, false = self._precision.shares()
        words = f"finds {percent(found)} of FP32's {self._objects}"
        return words + (f", and {percent(false)} of its own are none of FP32's" if false else "")


def _nearest(expected: Outputs, seen: Outputs) -> Outputs:
    """Return the baseline moved towards the engine by as much as float16 rounding may move it.

    Whole numbers, such as class ids, are exact in float16 and stay, and so do outputs with another
    number of rows.
    """
    found = dict(expected)
    for name, values in expected.items():
        if values.dtype.kind == "f" and values.shape == seen[name].shape:
            reference = values.astype(np.float64)
            noise = np.where(reference == np.rint(reference), 0.0, rounding(reference))
            found[name] = np.clip(seen[name], reference - noise, reference + noise)
    return found


def detected(decoding: Decoding) -> str:
    """Return what is detected, in the singular."""
    if decoding.rotated:
        return "rotated box"
    return "mask" if decoding.masks else "pose" if decoding.keypoints else "box"
