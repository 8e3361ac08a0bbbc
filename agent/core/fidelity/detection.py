"""Boxes with scores and classes, their overlap, and non-maximum suppression."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Detections:
    """Detections on one frame.

    Attributes:
        boxes: Shape (n, 4), float64: left, top, right, bottom in any unit.
        scores: Shape (n,), float64.
        labels: Shape (n,), int64: class ids.
        shapes: Shape (n, k): what a head gives beside the box: a rotated box (centre, size, angle),
            the pixels of a mask or the points of a pose; (0, 0) for boxes alone.
        classes: Number of classes that the model distinguishes; None if boxes have ids of their own.
        extent: Width and height of the picture in the unit of the boxes; None for pixels of the
            model's input.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    shapes: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 0)))
    classes: int | None = None
    extent: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def pick(self, which: NDArray[np.intp]) -> Detections:
        """Return the detections at these indices, in their order."""
        return replace(
            self,
            boxes=self.boxes[which],
            scores=self.scores[which],
            labels=self.labels[which],
            shapes=self.shapes[which] if len(self.shapes) else self.shapes,
        )


Similarity = Callable[[Detections, Detections], NDArray[np.float64]]
"""Returns the similarity of each detection with each of the others, 0..1, shape (n, m)."""


def box_overlaps(found: Detections, others: Detections) -> NDArray[np.float64]:
    """Return intersection over union of the boxes."""
    return overlaps(found.boxes, others.boxes)


def overlaps(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return intersection over union of boxes (n, 4) and others (m, 4), shape (n, m).

    Source: the Jaccard index as in Everingham et al., "The PASCAL Visual Object Classes
        Challenge" (IJCV 88, 2010), section 4.2. The extent of pixels is not added, so the result
        does not depend on the unit or on the order of x and y.
    """
    shared = _shared_areas(boxes, others)
    union = _areas(boxes)[:, None] + _areas(others)[None, :] - shared
    return _ratio(shared, union)


def covered(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of each box (n, 4) that lies in each of others (m, 4), shape (n, m)."""
    shared = _shared_areas(boxes, others)
    return _ratio(shared, np.broadcast_to(_areas(boxes)[:, None], shared.shape))


def _shared_areas(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    corner = np.maximum(boxes[:, None, :2], others[None, :, :2])
    opposite = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared: NDArray[np.float64] = np.clip(opposite - corner, 0.0, None).prod(axis=2)
    return shared


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    share: NDArray[np.float64] = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return share


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None).prod(axis=1)
    return areas


def suppress(
    found: Detections, overlap: float, most: int, similarity: Similarity = box_overlaps
) -> Detections:
    """Return the best detections, no two of a class overlapping by more than `overlap`.

    Greedy non-maximum suppression. The order of the input does not matter: equal scores are sorted
    by class and box.

    Args:
        found: In any order.
        overlap: Similarity, 0..1; 1 suppresses nothing.
        most: Largest number to keep.
        similarity: In which the overlap is measured.

    Source: Felzenszwalb et al., "Object Detection with Discriminatively Trained Part-Based
        Models" (PAMI 32, 2010), section 7.2.
    """
    order = np.lexsort((*found.boxes.T[::-1], found.labels, -found.scores))
    ranked = found.pick(order)
    if overlap >= 1.0:
        return ranked.pick(np.arange(min(most, len(ranked))))
    left = np.ones(len(ranked), bool)
    kept: list[int] = []
    while left.any() and len(kept) < most:
        best = int(left.argmax())
        kept.append(best)
        left[best] = False
        others = np.flatnonzero(left & (ranked.labels == ranked.labels[best]))
        alike = similarity(ranked.pick(np.array([best])), ranked.pick(others))[0]
        left[others[alike > overlap]] = False
    return ranked.pick(np.array(kept, np.intp))
