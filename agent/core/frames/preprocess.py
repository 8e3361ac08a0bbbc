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
