"""Which of a frame's detections match its true boxes, by the rules of COCO."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.core.fidelity.detection import Detections, Similarity, box_overlaps, covered

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""Overlaps from which two boxes match, 0.5 to 0.95: those of COCO, to the last digit."""
_MOST = 100  # detections of a frame and class that count: maxDets of COCO


def matches(
    found: Detections,
    truth: Detections,
    crowd: NDArray[np.bool_] | None = None,
    similarity: Similarity = box_overlaps,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which detections match a true box and which are ignored, (found, thresholds) each.

    Each detection, best first, matches the true box of its class with the largest overlap that is
    not matched yet; a second box on the same object is a miss. A detection without a match is
    ignored if it lies in a crowd, by the share of its own area.

    Args:
        found: Best first.
        truth: The true boxes; of equal overlaps the last one is matched.
        crowd: Which of them are crowds, shape (truth,); None for none.
        similarity: In which the overlap is measured.

    Source: Lin et al., "Microsoft COCO: Common Objects in Context" (2014) and its evaluation code,
        pycocotools.cocoeval.
    """
    hit = np.zeros((len(found), len(THRESHOLDS)), bool)
    if not len(found) or not len(truth):
        return hit, hit
    same = found.labels[:, None] == truth.labels[None, :]
    crowds = np.zeros(len(truth), bool) if crowd is None else crowd
    overlap = np.where(same & ~crowds, similarity(found, truth), 0.0)
    in_crowd = np.where(same & crowds, covered(found.boxes, truth.boxes), 0.0).max(axis=1)
    for column, threshold in enumerate(THRESHOLDS):
        hit[:, column] = assigned(overlap, threshold) >= 0
    return hit, ~hit & (in_crowd[:, None] >= THRESHOLDS)


def assigned(overlap: NDArray[np.float64], threshold: float) -> NDArray[np.intp]:
    """Return the index of the true box that each detection matches, best first; -1 for none.

    Args:
        overlap: Shape (found, truth), 0 where classes differ.
        threshold: From which two match.
    """
    free = overlap[:, ::-1].copy()  # the last of equal overlaps
    chosen = np.full(len(free), -1, np.intp)
    for row in range(len(free)):
        nearest = int(free[row].argmax())
        if free[row, nearest] >= threshold:
            chosen[row] = free.shape[1] - 1 - nearest
            free[:, nearest] = 0.0
    return chosen


def best(found: Detections) -> NDArray[np.intp]:
    """Return the indices of the 100 best detections of each class, the best first."""
    order = np.argsort(-found.scores, kind="stable")
    rank = np.zeros(len(order), np.int64)
    for name in np.unique(found.labels):
        mine = found.labels[order] == name
        rank[mine] = np.arange(mine.sum())
    return order[rank < _MOST]
