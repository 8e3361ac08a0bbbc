"""Pictures with known content: a textured street that changes, and what can be wrong with it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 120, 160


@lru_cache(maxsize=1)
def _walls() -> NDArray[np.float32]:
    tiles = np.random.default_rng(1).integers(40, 210, (15, 20, 3))
    return np.kron(tiles, np.ones((8, 8, 1))).astype(np.float32)


@lru_cache(maxsize=64)
def _noise(pattern: int, deviation: float) -> NDArray[np.float32]:
    rng = np.random.default_rng(pattern)
    return rng.normal(0, deviation, (HEIGHT, WIDTH, 3)).astype(np.float32)


@lru_cache(maxsize=1024)
def street(number: int, *, noise: float = 2.0, still: bool = False) -> NDArray[np.uint8]:
    """Return a textured scene in which something has moved since the last number."""
    scene = _walls() + _noise(number % 31, noise) if noise else _walls().copy()
    if not still:
        x, y = number * 13 % (WIDTH - 24), number * 7 % (HEIGHT - 40)
        scene[y : y + 40, x : x + 24] = (number * 29 % 256, 60, 200)
    return np.clip(scene, 0, 255).astype(np.uint8)


def blurred(image: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    """Return the image after two box blurs of 2 radius + 1 px, edges repeated."""
    size = 2 * radius + 1
    pixels = image.astype(np.float32)
    for axis in (0, 1, 0, 1):
        pad = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(pixels, pad, mode="edge")
        pixels = np.stack(
            [np.take(padded, range(o, o + pixels.shape[axis]), axis) for o in range(size)]
        ).mean(0)
    return pixels.astype(np.uint8)


def gradient() -> NDArray[np.uint8]:
    """Return a smooth wall in soft light with one thin sharp post before it."""
    rows = np.linspace(60, 190, HEIGHT)[:, None] + np.linspace(-20, 20, WIDTH)[None]
    scene = np.repeat(rows[..., None], 3, axis=2)
    scene[:, 80:84] = 30
    return scene.astype(np.uint8)
