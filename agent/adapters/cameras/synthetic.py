"""The Camera port without a camera: a moving pattern, marked as synthetic in all reports."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.adapters.cameras.pace import PacedCamera
from agent.core.errors import CameraError
from agent.core.frames.camera_uri import path_of

_SHAPES = 12


class SyntheticCamera(PacedCamera):
    """Boxes that drift over a moving gradient with noise, reproducible by seed.

    Args:
        uri: synthetic:// or synthetic://SEED, SEED a whole number (0 if left out).
        width: px.
        height: px.
        fps: Frames per second.

    Raises:
        CameraError: if the seed is not a whole number.
    """

    def __init__(self, uri: str, *, width: int, height: int, fps: float) -> None:
        text = path_of(uri) or "0"
        if not (text.isascii() and text.isdecimal()):
            raise CameraError(f"{uri}: {text!r} is not a seed", hint="use synthetic:// or ://7")
        self._seed = int(text)
        self._size = (height, width)
        rng = np.random.default_rng(self._seed)
        self._colors = rng.integers(0, 256, (_SHAPES, 3), dtype=np.uint8)
        self._starts = rng.random((_SHAPES, 2))
        self._steps = rng.uniform(-0.02, 0.02, (_SHAPES, 2))
        self._sides = rng.uniform(0.05, 0.3, (_SHAPES, 2))
        super().__init__(uri, fps, self._at, synthetic=True)

    def _at(self, sequence: int) -> NDArray[np.uint8]:
        height, width = self._size
        rng = np.random.default_rng((self._seed, sequence))
        rows = np.linspace(0, 160, height, dtype=np.float32)[:, None, None]
        columns = np.linspace(0, 80, width, dtype=np.float32)[None, :, None]
        tint = np.array([sequence % 97, 2 * sequence % 89, 3 * sequence % 83], np.float32) / 6
        image: NDArray[np.uint8] = (rows + columns + tint).astype(np.uint8)
        corners = (self._starts + sequence * self._steps) % 1.0
        for corner, side, color in zip(corners, self._sides, self._colors, strict=True):
            top, left = (corner * self._size).astype(int)
            bottom, right = ((corner + side) * self._size).astype(int)
            image[top:bottom, left:right] = color
        image ^= rng.integers(0, 16, image.shape, dtype=np.uint8)
        return image
