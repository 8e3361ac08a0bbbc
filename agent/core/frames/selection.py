"""Selection of calibration frames: of good quality, and different from one another."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_ANALYSIS_PX = 320  # frames are shrunk so that the longer side is near it, for comparable numbers
_LUMA = np.array([0.114, 0.587, 0.299], np.float32)  # of B, G, R: ITU-R BT.601
_DARK, _BRIGHT = 10.0, 245.0  # 8-bit levels of under- and overexposed pixels
_CLIPPED_SHARE = 0.9  # a street at night has well over a tenth of its pixels above black
_FLAT = 2.0  # levels of standard deviation: a lens cap, a "no signal" card
_BLURRED_SHARPNESS = 200.0  # a frame above it is sharp, whatever is usual for the scene
_BLURRED_DETAIL = 0.2  # of the scene's usual detail: edges more than twice as wide

_GRID = (18, 24)  # rows, columns of mean luma
_COLOR_GRID = (6, 8)
_COLOR_WEIGHT = 3.0  # square root of the 9 luma cells in a colour cell, for equal weights
_EXPOSURE_WEIGHT = 4.0  # exposure counts as one number, not as 432
DUPLICATE = 8.0
"""Largest distance of the signatures of two frames that differ only by noise.

Sensor noise of 5 levels at 640x480 gives a distance near 6; a flicker of one level adds 4; a
person of 20x40 px moving by 5 px gives more than 12. So the threshold drops frames that add nothing
to a histogram, and keeps a fixed camera's frames as soon as anything moves.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Image quality of a frame.

    Attributes:
        luma: Mean, 0..255.
        dark: Share of pixels at or below level 10, 0..1.
        bright: Share of pixels at or above level 245, 0..1.
        contrast: Variance of the luma.
        sharpness: Variance of the Laplacian of the luma.
        detail: Energy of the Laplacian per energy of the gradient. Flat areas add to neither, so it
            measures how narrow the edges are, not how many: an edge blurred by a Gaussian of s px
            has 1 / (2 s^2).
    """

    luma: float
    dark: float
    bright: float
    contrast: float
    sharpness: float
    detail: float


@dataclass(frozen=True, slots=True)
class FrameFeatures:
    """Quality of a frame, and its signature, float32, shape (529,)."""

    quality: Quality
    signature: NDArray[np.float32]


def frame_features(image: NDArray[np.uint8]) -> FrameFeatures:
    """Return quality and signature of a frame.

    Args:
        image: Shape (height, width, 3), uint8, BGR, any size from 1x1.

    Source: variance of the Laplacian as focus measure: J. L. Pech-Pacheco et al., "Diatom
        autofocusing in brightfield microscopy", ICPR 2000.
    """
    small = _shrunk(image)
    luma = small @ _LUMA
    sharpness, detail = _focus(luma)
    quality = Quality(
        luma=float(luma.mean()),
        dark=float((luma <= _DARK).mean()),
        bright=float((luma >= _BRIGHT).mean()),
        contrast=float(luma.var()),
        sharpness=sharpness,
        detail=detail,
    )
    return FrameFeatures(quality, _signature(small, luma))


def rejection_reason(quality: Quality, usual_detail: float | None) -> str:
    """Return why to reject a frame: "exposure", "blur", or "" to keep it.

    A frame is blurred if it is not sharp and its edges are far wider than is usual for its scene: a
    fixed threshold would reject every frame of a smooth scene, or of a soft lens.

    Args:
        quality: Of the frame.
        usual_detail: Of the better frames of the scene; None if unknown.
    """
    if max(quality.dark, quality.bright) > _CLIPPED_SHARE or quality.contrast < _FLAT**2:
        return "exposure"
    if usual_detail is None or quality.sharpness >= _BLURRED_SHARPNESS:
        return ""
    return "blur" if quality.detail < _BLURRED_DETAIL * usual_detail else ""


def distances(signature: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the Euclidean distances of one signature (d,) to others (n, d), shape (n,)."""
    result: NDArray[np.float32] = np.sqrt(np.square(others - signature).sum(axis=1))
    return result


def choose_frames(signatures: NDArray[np.float32], n: int, seed: int) -> tuple[int, ...]:
    """Return up to n indices of frames that cover the scene without near-duplicates.

    Greedy k-center: each next frame is the one farthest from all chosen ones, so the largest
    distance of any frame to a chosen one is at most twice the optimum. Stops when only
    near-duplicates are left. Any beginning of the result covers the scene too.

    Args:
        signatures: Shape (frames, d), float32.
        n: Largest number of frames.
        seed: Chooses the first frame; the same seed gives the same result.

    Source: T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance",
        Theoretical Computer Science 38, 1985.
    """
    if not len(signatures) or n < 1:
        return ()
    chosen = [int(np.random.default_rng(seed).integers(len(signatures)))]
    nearest = distances(signatures[chosen[0]], signatures)
    while len(chosen) < n:
        farthest = int(nearest.argmax())
        if nearest[farthest] < DUPLICATE:
            break
        chosen.append(farthest)
        nearest = np.minimum(nearest, distances(signatures[farthest], signatures))
    return tuple(chosen)


def split_holdout(
    signatures: NDArray[np.float32], frames: int, holdout: int, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return indices of (calibration, held-out) frames, no two of them near-duplicates.

    Both sets get their share of extreme and of ordinary frames: of each stretch of the order of
    selection, the smaller set gets the frame farthest from those it already has. With fewer distinct
    frames than wanted the ratio is kept, and both sets have at least one if there are two.

    Args:
        signatures: Shape (candidates, d), float32.
        frames: Wanted for calibration, >= 1.
        holdout: Wanted to be held out, >= 1.
        seed: As for `choose_frames`.
    """
    order = choose_frames(signatures, frames + holdout, seed)
    if len(order) < 2:
        return order, ()
    held = split_counts(len(order), frames, holdout)[1]
    few = min(held, len(order) - held)
    bounds = np.linspace(0, len(order), few + 1).astype(int)
    picked: list[int] = []
    apart = np.full(len(signatures), np.inf, np.float32)
    for low, high in pairwise(bounds):
        stretch = np.array(order[low:high])[::-1]  # among equals the most ordinary one
        picked.append(int(stretch[apart[stretch].argmax()]))
        apart = np.minimum(apart, distances(signatures[picked[-1]], signatures))
    rest = tuple(index for index in order if index not in picked)
    return (rest, tuple(picked)) if few == held else (tuple(picked), rest)


def split_counts(available: int, frames: int, holdout: int) -> tuple[int, int]:
    """Return the numbers of calibration and of held-out frames among the available ones (>= 2)."""
    total = min(available, frames + holdout)
    held = min(max(1, round(total * holdout / (frames + holdout))), total - 1)
    return total - held, held


def _shrunk(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the image as float32, shrunk to near the analysis size by means of k x k pixels."""
    height, width = image.shape[:2]
    k = min(max(1, max(height, width) // _ANALYSIS_PX), height, width)
    if k == 1:
        return image.astype(np.float32)
    whole = image[: height - height % k, : width - width % k]
    total = np.zeros((height // k, width // k, 3), np.uint32)
    for row in range(k):
        for column in range(k):
            total += whole[row::k, column::k]
    mean: NDArray[np.float32] = total.astype(np.float32) / np.float32(k * k)
    return mean


def _focus(luma: NDArray[np.float32]) -> tuple[float, float]:
    """Return the variance of the Laplacian, and its energy per energy of the gradient."""
    if min(luma.shape) < 3:
        return 0.0, 0.0
    left, right = luma[1:-1, :-2], luma[1:-1, 2:]
    up, down = luma[:-2, 1:-1], luma[2:, 1:-1]
    laplacian = 4 * luma[1:-1, 1:-1] - left - right - up - down
    gradient = float(np.square(right - left).mean() + np.square(down - up).mean()) / 4
    detail = float(np.square(laplacian).mean()) / gradient if gradient else 0.0
    return float(laplacian.var()), detail


def _signature(small: NDArray[np.float32], luma: NDArray[np.float32]) -> NDArray[np.float32]:
    grid = _cell_means(luma, _GRID)
    blue_red = small[..., [0, 2]] - luma[..., None]
    colors = _cell_means(blue_red, _COLOR_GRID)
    exposure = grid.mean()
    parts = (
        (grid - exposure).ravel(),
        np.array([_EXPOSURE_WEIGHT * exposure], np.float32),
        _COLOR_WEIGHT * colors.ravel(),
    )
    return np.concatenate(parts, dtype=np.float32)


def _cell_means(plane: NDArray[np.float32], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Return the means over a grid of cells; a plane smaller than the grid repeats its pixels."""
    for axis, count in enumerate(grid):
        size = plane.shape[axis]
        edges = np.arange(count) * size // count
        widths = np.maximum(np.diff(edges, append=size), 1)
        shape = [-1 if a == axis else 1 for a in range(plane.ndim)]
        plane = np.add.reduceat(plane, edges, axis=axis) / widths.astype(np.float32).reshape(shape)
    return plane
