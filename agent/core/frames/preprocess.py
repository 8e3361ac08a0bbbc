"""From a resized frame to the model's input tensor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """Preprocessing of a frame into a tensor: ((pixel * scale) - mean) / std per channel.

    Attributes:
        width: px; 0 for that of the model's input, set by intake.
        height: px; 0 as for width.
        layout: NCHW or NHWC.
        color: RGB, BGR or GRAY (ITU-R BT.601 luma).
        dtype: float32, float16, uint8 or int8 (integers are rounded and clipped).
        resize: stretch, or letterbox (keeps the aspect ratio, pads with 114 grey).
    """

    width: int
    height: int
    layout: str = "NCHW"
    color: str = "RGB"
    dtype: str = "float32"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: str = "stretch"


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


def to_tensor(image: NDArray[np.uint8], spec: InputSpec) -> NDArray[Any]:
    """Return the input tensor of one frame, batch dimension 1.

    Args:
        image: Shape (spec.height, spec.width, 3), uint8, BGR.
        spec: The model's input.

    Returns:
        Shape (1, C, H, W) or (1, H, W, C), dtype of the spec, C-contiguous.
    """
    pixels = image.astype(np.float32)
    if spec.color == "GRAY":  # weights of ITU-R BT.601
        pixels = (pixels @ np.array([0.114, 0.587, 0.299], np.float32))[..., None]
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


def resolved(spec: InputSpec, shape: tuple[int, ...]) -> InputSpec:
    """Return spec with width and height taken from the clean model's input shape."""
    height, width = shape[1:3] if spec.layout == "NHWC" else shape[2:4]
    return replace(spec, width=width, height=height)
