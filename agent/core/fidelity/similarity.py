"""Similarity of detected objects, 0..1: of boxes, rotated boxes, masks and poses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.detection import Detections, Similarity, box_overlaps

_FALL_OFF = 0.1  # of a point, in sides of its object: 2 sigma of COCO's joints are 0.05 to 0.21
_VISIBLE = 0.5
_FAR = 1e9  # keeps products of any engine finite
_LEAST = 1e-12  # keeps what follows finite for boxes without extent


def similarity_of(how: Decoding) -> Similarity:
    """Return the similarity in which a detector's objects are matched."""
    if how.rotated:
        return rotated_boxes
    if how.masks:
        return masks
    if how.keypoints:
        return lambda found, others: poses(found, others, how.keypoints)
    return box_overlaps


def rotated_boxes(found: Detections, others: Detections) -> NDArray[np.float64]:
    """Return the overlap of boxes as that of two Gaussians with their moments.

    Args:
        found: With shapes (n, 5): centre, width, height, angle in radians.
        others: Likewise.

    Source: Llerena et al., "Gaussian Bounding Boxes and Probabilistic Intersection-over-Union for
        Object Detection" (2021): one less the Hellinger distance.
    """
    (x, y, a, b, c), (u, v, d, e, f) = (
        _gaussians(one.shapes)[:, :, None] for one in (found, others)
    )
    u, v, d, e, f = (values.T for values in (u, v, d, e, f))
    across, down, mixed = (a + d) / 2, (b + e) / 2, (c + f) / 2
    area = np.maximum(across * down - mixed**2, _LEAST)
    apart = (down * (x - u) ** 2 + across * (y - v) ** 2 - 2 * mixed * (x - u) * (y - v)) / area
    areas = np.maximum(a * b - c**2, _LEAST) * np.maximum(d * e - f**2, _LEAST)
    distance = np.clip(apart / 8 + np.log(area / np.sqrt(areas)) / 2, 0.0, None)
    alike: NDArray[np.float64] = 1.0 - np.sqrt(1.0 - np.exp(-distance))
    return alike


def _gaussians(shapes: NDArray[Any]) -> NDArray[np.float64]:
    """Return mean x and y, variance of x and y, and covariance of each box, shape (5, n)."""
    x, y, width, height, angle = shapes.astype(np.float64).T
    along, over = width**2 / 12, height**2 / 12
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack(
        [
            x,
            y,
            along * cosine**2 + over * sine**2,
            along * sine**2 + over * cosine**2,
            (along - over) * cosine * sine,
        ]
    )


def masks(found: Detections, others: Detections) -> NDArray[np.float64]:
    """Return intersection over union of masks, shapes (n, pixels) of booleans.

    Where both are empty, as those of objects smaller than a cell, it is that of the boxes.
    """
    one, other = (each.shapes.astype(np.float32) for each in (found, others))
    shared: NDArray[np.float64] = (one @ other.T).astype(np.float64)
    either = one.sum(axis=1)[:, None] + other.sum(axis=1)[None, :] - shared
    share: NDArray[np.float64] = np.divide(
        shared, either, out=box_overlaps(found, others), where=either > 0
    )
    return share


def poses(found: Detections, others: Detections, points: int) -> NDArray[np.float64]:
    """Return the smaller of the overlap of boxes and the object keypoint similarity.

    One tolerance serves all points, since their meaning is not known. Points that the others give a
    visibility below 0.5 don't count.

    Args:
        found: With shapes (n, points * 2 or 3): x, y and, if 3, the visibility.
        others: Likewise; their size is that of the object.
        points: Number of points.

    Source: COCO keypoint evaluation, object keypoint similarity.
    """
    one, other = (
        each.shapes.reshape(len(each), points, each.shapes.shape[1] // points)
        for each in (found, others)
    )
    size = np.maximum(np.prod(others.boxes[:, 2:] - others.boxes[:, :2], axis=1), _LEAST)
    squares = ((one[:, None, :, :2] - other[None, :, :, :2]) ** 2).sum(axis=3)
    near = np.exp(-squares / (2 * _FALL_OFF**2 * size[None, :, None]))
    seen = np.ones(other.shape[:2]) if other.shape[2] == 2 else other[:, :, 2] >= _VISIBLE
    count = seen.sum(axis=1)
    mean = np.divide(
        (near * seen[None]).sum(axis=2), count, out=np.ones(near.shape[:2]), where=count > 0
    )
    alike: NDArray[np.float64] = np.minimum(mean, box_overlaps(found, others))
    return alike


def drawn_masks(
    found: Detections, prototypes: NDArray[np.float64], pixels_per_cell: int
) -> NDArray[np.bool_]:
    """Return the masks of detections, each inside its box, shape (n, h * w).

    Args:
        found: Boxes in pixels, or in fractions of the picture; shapes (n, m) are coefficients.
        prototypes: Shape (m, h, w).
        pixels_per_cell: Pixels of the model's input per cell of the prototypes.

    Source: Bolya et al., "YOLACT: Real-time Instance Segmentation" (2019), section 3.2; a logit
        above 0 is a probability above 0.5.
    """
    count, height, width = prototypes.shape
    flat = np.clip(prototypes.reshape(count, -1), -_FAR, _FAR).astype(np.float32)
    shown = found.shapes.astype(np.float32) @ flat > 0
    cells = np.array([width, height] * 2) if found.extent else 1 / pixels_per_cell
    left, top, right, bottom = (found.boxes * cells).T[:, :, None]
    across, down = np.arange(width)[None] + 0.5, np.arange(height)[None] + 0.5
    columns, rows = (left <= across) & (across < right), (top <= down) & (down < bottom)
    inside = rows[:, :, None] & columns[:, None, :]
    return np.asarray(shown & inside.reshape(shown.shape), np.bool_)
