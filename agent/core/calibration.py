"""Which frames are worth calibrating with. Pure numpy on small grey images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE = 64  # frames are judged at this size: fast, and independent of the camera's
_CELLS = 8
_DARK, _BRIGHT = 8, 247
_CLIPPED = 0.90  # share of pixels at one end that makes a frame black or blown out
_CONTRAST = 4.0  # standard deviation of luma under which nothing can be seen
_BLUR_SHARE = 0.25  # of the scene's usual sharpness
DUPLICATE = 0.0025  # distance under which two frames differ by less than sensor noise


@dataclass(frozen=True, slots=True)
class Quality:
    """How usable a frame is.

    Attributes:
        dark: Share of pixels under 8 of 255.
        bright: Share of pixels over 247 of 255.
        contrast: Standard deviation of luma, 0..127.
        sharpness: Variance of the Laplacian (Pech-Pacheco et al., ICPR 2000).
    """

    dark: float
    bright: float
    contrast: float
    sharpness: float


def quality(luma: NDArray[np.uint8]) -> Quality:
    """Judge a frame by its luma, shape (h, w), at full or reduced size."""
    pixels = luma.astype(np.float32)
    laplacian = (
        pixels[1:-1, :-2] + pixels[1:-1, 2:] + pixels[:-2, 1:-1] + pixels[2:, 1:-1]
    ) - 4.0 * pixels[1:-1, 1:-1]
    return Quality(
        dark=float(np.mean(luma < _DARK)),
        bright=float(np.mean(luma > _BRIGHT)),
        contrast=float(pixels.std()),
        sharpness=float(laplacian.var()),
    )


def rejection(seen: Quality, usual_sharpness: float | None) -> str:
    """Return "exposure", "blur" or "" for a good frame.

    Args:
        seen: The frame's quality.
        usual_sharpness: Median sharpness of the good frames so far; blur is relative to the
            scene, so a smooth scene in focus is not called blurred. None at the beginning.
    """
    if seen.dark > _CLIPPED or seen.bright > _CLIPPED or seen.contrast < _CONTRAST:
        return "exposure"
    if usual_sharpness is not None and seen.sharpness < _BLUR_SHARE * usual_sharpness:
        return "blur"
    return ""


def signature(small: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what a frame looks like as a short vector, for distances.

    Args:
        small: The frame at SIDE x SIDE, uint8 BGR.

    Returns:
        Mean colour of 8 x 8 cells and the luma histogram, about 0..1 each; shape (224,).
    """
    pixels = small.astype(np.float32) / 255.0
    step = SIDE // _CELLS
    cells = pixels.reshape(_CELLS, step, _CELLS, step, 3).mean(axis=(1, 3)).ravel()
    luma = pixels @ np.array([0.114, 0.587, 0.299], np.float32)
    histogram = np.histogram(luma, bins=32, range=(0.0, 1.0))[0] / luma.size
    return np.concatenate([cells, histogram]).astype(np.float32)


def distances(one: NDArray[np.float32], many: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the root mean square difference of one signature to each of many."""
    return np.asarray(np.sqrt(np.mean((many - one) ** 2, axis=1)), np.float32)


def spread(signatures: NDArray[np.float32], count: int, seed: int) -> list[int]:
    """Return `count` indices that cover the signatures best, in the order they were chosen.

    Greedy k-center: each next frame is the one farthest from all chosen so far, which is at
    most twice as far from optimal as possible (Gonzalez 1985). The first is the frame nearest
    to the mean, so the common look of the scene is always there; the seed settles ties only.
    """
    total = len(signatures)
    if total == 0 or count <= 0:
        return []
    jitter = np.random.default_rng(seed).random(total) * 1e-7
    first = int(np.argmin(distances(signatures.mean(axis=0), signatures) + jitter))
    chosen = [first]
    nearest = distances(signatures[first], signatures)
    while len(chosen) < min(count, total):
        score = nearest + jitter
        score[chosen] = -1.0
        following = int(np.argmax(score))
        chosen.append(following)
        nearest = np.minimum(nearest, distances(signatures[following], signatures))
    return chosen


def most_redundant(signatures: NDArray[np.float32]) -> int:
    """Return the index of the frame that another one stands in for best."""
    closest = np.empty(len(signatures), np.float32)
    for index, one in enumerate(signatures):
        apart = distances(one, signatures)
        apart[index] = np.inf
        closest[index] = apart.min()
    return int(np.argmin(closest))


def split(
    signatures: NDArray[np.float32], frames: int, holdout: int, seed: int
) -> tuple[list[int], list[int]]:
    """Choose calibration and held-out frames that share no near-duplicates.

    Both are spread over the scene: of the best-covering frames every n-th is held out. A
    calibration frame nearer than DUPLICATE to a held-out one is left out.

    Args:
        signatures: Of all candidates, shape (n, d).
        frames: Calibration frames wanted.
        holdout: Held-out frames wanted.
        seed: See `spread`.

    Returns:
        Indices for calibration and for holding out, each in order of choice; fewer than
        wanted, in the same proportion, where there are too few candidates.
    """
    order = spread(signatures, frames + holdout, seed)
    share = holdout / (frames + holdout)
    kept_out = [
        index for place, index in enumerate(order) if int((place + 1) * share) > int(place * share)
    ]
    if not kept_out and len(order) > 1:
        kept_out = [order[-1]]
    chosen = [
        index
        for index in order
        if index not in set(kept_out)
        and distances(signatures[index], signatures[kept_out]).min(initial=np.inf) > DUPLICATE
    ]
    return chosen[:frames], kept_out[:holdout]
