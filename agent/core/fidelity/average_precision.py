"""Average precision of boxes against true ones, as COCO computes it."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.core.fidelity.box_matching import THRESHOLDS, best, matches
from agent.core.fidelity.detection import Detections, Similarity, box_overlaps
from agent.core.fidelity.resampling import Counts, each_frame_once

_RECALLS = np.linspace(0.0, 1.0, 101)


class PrecisionCurve:
    """Detections of all frames in the order of their scores, for repeated weighting.

    Args:
        scores: Shape (n,).
        ties_together: True if equal scores, which no threshold can separate, count together;
            False to count them in their order, as COCO does.
    """

    def __init__(self, scores: NDArray[np.float64], *, ties_together: bool) -> None:
        self.order = np.argsort(-scores, kind="stable")
        ranked = scores[self.order]
        counts = np.ones(ranked.size, bool)
        if ties_together:
            counts[:-1] = ranked[1:] != ranked[:-1]
        self._ends = np.flatnonzero(counts)

    def area(self, hit: NDArray[np.bool_], weight: NDArray[np.float64], truths: float) -> float:
        """Return the area under precision over recall; NaN without true boxes.

        Args:
            hit: Which detections match, in the order of the curve.
            weight: How often each counts, in that order; 0 for one that is ignored.
            truths: Number of true boxes, weighted likewise.

        Source: pycocotools.cocoeval: the mean of 101 recalls, with precision made monotonic.
        """
        if truths <= 0:
            return float("nan")
        right = np.cumsum(weight * hit)[self._ends]
        counted = np.cumsum(weight)[self._ends]
        precision = np.divide(right, counted, out=np.zeros_like(right), where=counted > 0)
        best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
        reached = np.searchsorted(right / truths, _RECALLS)
        return float(best_from_here[reached[reached < len(right)]].sum() / len(_RECALLS))


@dataclass(frozen=True, slots=True)
class _Curve:
    """The detections that share a curve, in its order, and the frames of the true boxes."""

    curve: PrecisionCurve
    frame: NDArray[np.intp]
    hits: NDArray[np.int64]
    ignored: NDArray[np.int64]
    truth_frame: NDArray[np.intp]

    def areas(self, counts: Counts, bit: int) -> NDArray[np.float64]:
        """Return the area for each resample of frames."""
        hit = (self.hits >> bit & 1).astype(bool)
        kept = 1.0 - (self.ignored >> bit & 1)
        truths = counts[:, self.truth_frame].sum(axis=1).tolist()
        return np.array(
            [
                self.curve.area(hit, times[self.frame] * kept, total)
                for times, total in zip(counts, truths, strict=True)
            ]
        )


class AveragePrecision:
    """Average precision over frames, any of which may count several times.

    Args:
        pooled: False for the mean over the classes that have true boxes, as COCO. True for one
            curve of all classes, on which equal scores count together: a rare class then weighs
            less than a frequent one, and a detection of a class without true boxes is a false one.
        similarity: In which overlaps are measured.

    Source: pooled classes: Dave et al., "Evaluating Large-Vocabulary Object Detectors: The Devil is
        in the Details" (2021).
    """

    def __init__(self, *, pooled: bool, similarity: Similarity = box_overlaps) -> None:
        self._pooled = pooled
        self._similarity = similarity
        self.frames = 0
        self.judged = 0
        """Number of frames with a true box."""
        self._truth_frame = array("q")  # per true box, as the next
        self._truth_label = array("q")
        self._frame = array("q")  # per detection, as all below
        self._label = array("q")
        self._scores = array("d")
        self._hits = array("H")  # one bit per threshold, as the next
        self._ignored = array("H")

    def add(
        self, found: Detections, truth: Detections, crowd: NDArray[np.bool_] | None = None
    ) -> None:
        """Add one frame; see `matches`.

        Args:
            found: Best first. Of each class the 100 best count, as for COCO; all where classes are
                pooled, since a cut through both lists would make misses of boxes on either side.
            truth: The true boxes.
            crowd: Which of them are crowds, shape (truth,); None for none.
        """
        if not self._pooled:
            found = found.pick(best(found))
        hit, ignored = matches(found, truth, crowd, self._similarity)
        bits = 1 << np.arange(len(THRESHOLDS))
        counted = truth.labels if crowd is None else truth.labels[~crowd]
        self._truth_frame.extend([self.frames] * len(counted))
        self._truth_label.extend(counted.tolist())
        self._frame.extend([self.frames] * len(found))
        self._label.extend(found.labels.tolist())
        self._scores.extend(found.scores.tolist())
        self._hits.extend((hit @ bits).tolist())
        self._ignored.extend((ignored @ bits).tolist())
        self.frames += 1
        self.judged += len(counted) > 0

    def value(self, counts: Counts, bit: int = 0) -> NDArray[np.float64]:
        """Return it at an overlap of THRESHOLDS[bit] for each resample; NaN without true boxes."""
        areas = np.array([curve.areas(counts, bit) for curve in self._curves()])
        known = ~np.isnan(areas)
        total = np.where(known, areas, 0.0).sum(axis=0)
        found: NDArray[np.float64] = np.divide(
            total, known.sum(axis=0), out=np.full(len(counts), np.nan), where=known.any(axis=0)
        )
        return found

    def metrics(self) -> dict[str, float]:
        """Return ap50 and ap50_95, the mean over all thresholds; empty without true boxes."""
        if not self.judged:
            return {}
        all_once = each_frame_once(self.frames)
        areas = [float(self.value(all_once, bit)[0]) for bit in range(len(THRESHOLDS))]
        return {"ap50": areas[0], "ap50_95": sum(areas) / len(areas)}

    def shares(self) -> tuple[float, float]:
        """Return the shares of true boxes found and of detections that are false, at 0.5."""
        hits = sum(bits & 1 for bits in self._hits)
        false = 1 - hits / len(self._hits) if self._hits else 0.0
        return hits / len(self._truth_frame), false

    def _curves(self) -> list[_Curve]:
        """Return one curve for each class with true boxes, or one for all classes."""
        truth_frame, truth_label = (_ints(one) for one in (self._truth_frame, self._truth_label))
        frame, label, hits, ignored = (
            _ints(one) for one in (self._frame, self._label, self._hits, self._ignored)
        )
        scores = np.asarray(self._scores, np.float64)
        if self._pooled:
            truth_label, label = np.zeros_like(truth_label), np.zeros_like(label)
        found = []
        for name in np.unique(truth_label):
            mine = np.flatnonzero(label == name)
            curve = PrecisionCurve(scores[mine], ties_together=self._pooled)
            mine = mine[curve.order]
            frames = truth_frame[truth_label == name]
            found.append(_Curve(curve, frame[mine], hits[mine], ignored[mine], frames))
        return found


def _ints(values: array[int]) -> NDArray[np.int64]:
    return np.asarray(values, np.int64)
