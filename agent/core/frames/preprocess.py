"""From a frame to the model's input tensor: what was judged does this, and so does an application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.frames.input_spec import InputSpec

Resize = Callable[[NDArray[np.uint8], tuple[int, int], str], NDArray[np.uint8]]
"""Returns a picture in another size (width, height; px) with an interpolation of OpenCV, by name."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the picture lies in the model's input, px."""

    left: int
    top: int
    width: int
    height: int


def placement(spec: InputSpec, width: int, height: int) -> Placement:
    """Return where a frame of this size lies in the model's input.

    Args:
        spec: The model's input, with its size.
        width: Of the frame, px.
        height: Of the frame, px.
    """
    if spec.resize != "letterbox":
        return Placement(0, 0, spec.width, spec.height)
    scale = min(spec.width / width, spec.height / height)
    inner_width, inner_height = max(1, round(width * scale)), max(1, round(height * scale))
    if not spec.centered:
        return Placement(0, 0, inner_width, inner_height)
    left, top = (spec.width - inner_width) // 2, (spec.height - inner_height) // 2
    return Placement(left, top, inner_width, inner_height)


def placed(
    boxes: NDArray[np.float64], spec: InputSpec, width: int, height: int
) -> NDArray[np.float64]:
    """Return boxes of a frame in pixels of the model's input.

    Args:
        boxes: Shape (n, 4): left, top, right, bottom, px of the frame.
        spec: As for `placement`, like the two below.
        width: Of the frame, px.
        height: Of the frame, px.
    """
    at = placement(spec, width, height)
    scale = (at.width / width, at.height / height)
    moved: NDArray[np.float64] = boxes * (scale * 2) + (at.left, at.top) * 2
    return moved


def unplaced(
    points: NDArray[np.float64], spec: InputSpec, width: int, height: int
) -> NDArray[np.float64]:
    """Return points of the model's input in pixels of a frame; see `placed`.

    Args:
        points: Shape (..., 2): x, y, px of the model's input.
        spec: As for `placement`, like the two below.
        width: Of the frame, px.
        height: Of the frame, px.
    """
    at = placement(spec, width, height)
    moved: NDArray[np.float64] = (points - (at.left, at.top)) * (
        width / at.width,
        height / at.height,
    )
    return moved


def fit(image: NDArray[np.uint8], spec: InputSpec, resize: Resize) -> NDArray[np.uint8]:
    """Return a frame in the size of the model's input, stretched or letterboxed.

    Args:
        image: Shape (height, width, 3), uint8.
        spec: The model's input, with its size.
        resize: OpenCV's, as the core does without it.
    """
    height, width = image.shape[:2]
    at = placement(spec, width, height)
    inner = image
    if (width, height) != (at.width, at.height):
        shrinks = width >= at.width and height >= at.height
        how = spec.interpolation.shrink if shrinks else spec.interpolation.enlarge
        inner = resize(image, (at.width, at.height), how)
    if spec.resize != "letterbox":
        return inner
    padded = np.full((spec.height, spec.width, 3), spec.pad_value, np.uint8)
    padded[at.top : at.top + at.height, at.left : at.left + at.width] = inner
    return padded


def to_tensor(image: NDArray[np.uint8], spec: InputSpec) -> NDArray[Any]:
    """Return the input tensor of one frame, batch dimension 1.

    Args:
        image: Shape (spec.height, spec.width, 3), uint8, BGR.
        spec: The model's input.

    Returns:
        Shape (1, C, H, W) or (1, H, W, C), dtype of the spec, C-contiguous.
    """
    pixels = image.astype(np.float32)
    if spec.color == "GRAY":
        pixels = (pixels @ np.array(spec.grey_weights[::-1], np.float32))[..., None]
    elif spec.color == "RGB":
        pixels = pixels[..., ::-1].copy()
    channels = pixels.shape[-1]
    if spec.scale != 1.0:
        pixels *= np.float32(spec.scale)
    if any(spec.mean):
        pixels -= np.array(spec.mean[:channels], np.float32)
    if any(value != 1.0 for value in spec.std):
        pixels /= np.array(spec.std[:channels], np.float32)
    dtype = np.dtype(spec.dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        pixels = np.clip(np.rint(pixels), limits.min, limits.max)
    ordered = pixels if spec.layout == "NHWC" else np.moveaxis(pixels, -1, 0)
    return np.ascontiguousarray(ordered[None], dtype=dtype)
