"""Average precision of one detector's boxes with another's as ground truth."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

from agent.core.fidelity.box_decoding import Decoding, Outputs, decode
from agent.core.fidelity.detection import Detections, overlaps
from agent.core.fidelity.resampling import Counts, each_frame_once, percent

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""Overlaps from which two boxes match, 0.5 to 0.95: those of COCO."""


def matches(found: Detections, truth: Detections) -> NDArray[np.bool_]:
    """Return which detections match a true box, shape (found, thresholds).

    Each detection, best first, matches the true box of its class with the largest overlap that is
    not matched yet; a second box on the same object is a miss.

    Args:
        found: Best first.
        truth: The true boxes.

    Source: Everingham et al., "The PASCAL Visual Object Classes Challenge" (IJCV 88, 2010),
        section 4.2; the thresholds: Lin et al., "Microsoft COCO: Common Objects in Context"
        (2014) and its evaluation code.
    """
    hit = np.zeros((len(found), len(THRESHOLDS)), bool)
    if not len(found) or not len(truth):
        return hit
    same = found.labels[:, None] == truth.labels[None, :]
    overlap = np.where(same, overlaps(found.boxes, truth.boxes), 0.0)
    for column, threshold in enumerate(THRESHOLDS):
        free = overlap.copy()
        for row in range(len(found)):
            best = int(free[row].argmax())
            if free[row, best] >= threshold:
                hit[row, column] = True
                free[:, best] = 0.0
    return hit


class PrecisionCurve:
    """Detections of all frames in the order of their scores, for repeated weighting.

    Args:
        scores: Shape (n,).
    """

    def __init__(self, scores: NDArray[np.float64]) -> None:
        self.order = np.argsort(-scores, kind="stable")
        ranked = scores[self.order]
        # A threshold can't separate equal scores, which are frequent in INT8: they count together.
        self._ends = np.flatnonzero(
            np.append(ranked[1:] != ranked[:-1], [True] * bool(ranked.size))
        )

    def area(self, hit: NDArray[np.bool_], weight: NDArray[np.float64], truths: float) -> float:
        """Return the area under precision over recall; NaN without true boxes.

        Args:
            hit: Which detections match, in the order of the curve.
            weight: How often each counts, in that order.
            truths: Number of true boxes, weighted likewise.

        Source: Everingham as above: precision is made monotonic, the area is exact (as since
            VOC 2010), not sampled at 11 or 101 recalls.
        """
        if truths <= 0:
            return float("nan")
        right = np.cumsum(weight * hit)[self._ends]
        counted = np.cumsum(weight)[self._ends]
        precision = np.divide(right, counted, out=np.zeros_like(right), where=counted > 0)
        best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
        return float((np.diff(right, prepend=0.0) * best_from_here).sum() / truths)


class DetectionAgreement:
    """Average precision of the engine's boxes with the baseline's as ground truth.

    A frame without a box of the baseline is not judged, but false boxes on it count. Both use the same decoding and threshold, so a box whose score falls below it is lost. Boxes
    match only within a class. There is one curve for all classes, so a rare class weighs less than
    a frequent one, and a class that the baseline never detects counts against the engine.

    Source: one curve for all classes: Dave et al., "Evaluating Large-Vocabulary Object
        Detectors: The Devil is in the Details" (2021).
    """

    def __init__(self, decoding: Decoding) -> None:
        self.seen = f"a box with a score of {decoding.threshold:g}"
        self._decoding = decoding
        self._truths = array("q")  # per frame
        self._scores = array("d")  # per detection of the engine, as the two below
        self._frame = array("q")
        self._hits = array("H")  # one bit per threshold

    def add(self, expected: Outputs, seen: Outputs) -> None:
        """Count one frame; see `agreement.Agreement`."""
        truth = decode(expected, self._decoding, trusted=True)
        found = decode(seen, self._decoding)
        bits = matches(found, truth) @ (1 << np.arange(len(THRESHOLDS)))
        self._frame.extend([len(self._truths)] * len(found))
        self._truths.append(len(truth))
        self._scores.extend(found.scores.tolist())
        self._hits.extend(bits.tolist())

    @property
    def judged(self) -> int:
        """Number of frames on which the baseline detects something."""
        return sum(truths > 0 for truths in self._truths)

    def value(self, counts: Counts) -> NDArray[np.float64]:
        """Return the average precision at an overlap of 0.5 for each resample."""
        return self._areas(counts, 0)

    def metrics(self) -> dict[str, float]:
        """Return ap50 and ap50_95, the mean over all thresholds; empty without true boxes."""
        if not any(self._truths):
            return {}
        all_once = each_frame_once(len(self._truths))
        areas = [float(self._areas(all_once, bit)[0]) for bit in range(len(THRESHOLDS))]
        return {"ap50": areas[0], "ap50_95": sum(areas) / len(areas)}

    def summary(self) -> str:
        """Return how many boxes are found and how many are false, at an overlap of 0.5, in words."""
        hits = sum(bits & 1 for bits in self._hits)
        words = f"finds {percent(hits / sum(self._truths))} of FP32's boxes"
        if false := 1 - hits / len(self._hits) if self._hits else 0.0:
            words += f", and {percent(false)} of its own are none of FP32's"
        return words

    def _areas(self, counts: Counts, bit: int) -> NDArray[np.float64]:
        curve = PrecisionCurve(np.asarray(self._scores, np.float64))
        frame = np.asarray(self._frame, np.intp)[curve.order]
        hit = (np.asarray(self._hits)[curve.order] >> bit & 1).astype(bool)
        truths = counts @ np.asarray(self._truths, np.float64)
        return np.array(
            [
                curve.area(hit, times[frame], total)
                for times, total in zip(counts, truths.tolist(), strict=True)
            ]
        )
