"""Frames as PNG files, through OpenCV."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.core.errors import StoreError
from agent.core.frames.preprocess import fit
from agent.disk import disk_errors, write_atomically

if TYPE_CHECKING:
    from agent.core.frames.input_spec import InputSpec

_QUALITIES = (80, 70, 60, 50, 40)  # of JPEGs, the best that is small enough
_LEAST_PX = 64
_BEGIN = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_HEADER = struct.Struct(">16sII")  # of a PNG: _BEGIN, width, height


class OpencvFrames:
    """Implements `ports.FrameStore`."""

    def write(self, directory: str, name: str, image: NDArray[np.uint8]) -> None:
        """See `ports.FrameStore`."""
        body = _encoded(name, ".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        write_atomically(Path(directory, name), body)

    def remove(self, directory: str, name: str) -> None:
        """See `ports.FrameStore`."""
        with disk_errors(Path(directory)):
            Path(directory, name).unlink(missing_ok=True)

    def jpeg(self, path: str, side_px: int, most_bytes: int) -> bytes:
        """Return a small JPEG of a stored frame.

        Args:
            path: Of the frame.
            side_px: Its longer side, at most.
            most_bytes: Its size, at most; the quality is lowered first, then the number of pixels.

        Raises:
            StoreError: "damaged" if the file is missing or not an image.
        """
        image = _decode(path)
        while True:
            scale = min(side_px / max(image.shape[:2]), 1.0)
            size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            for quality in _QUALITIES:
                body = _encoded(path, ".jpg", _bytes(small), [cv2.IMWRITE_JPEG_QUALITY, quality])
                if len(body) <= most_bytes or side_px <= _LEAST_PX:
                    return body
            side_px = side_px * 3 // 4

    def read(self, path: str, spec: InputSpec) -> NDArray[np.uint8]:
        """See `ports.FrameStore`."""
        return fit(_decode(path), spec, _resize)

    def size(self, path: str) -> tuple[int, int]:
        """Read the header of the PNG alone; see `ports.FrameStore`."""
        try:
            with Path(path).open("rb") as file:
                header = file.read(_HEADER.size)
            begin, width, height = _HEADER.unpack(header)
        except (OSError, struct.error) as e:
            raise _damaged(path) from e
        if begin != _BEGIN:
            raise _damaged(path)
        return width, height


def _encoded(name: str, kind: str, image: NDArray[np.uint8], options: list[int]) -> bytes:
    good, body = cv2.imencode(kind, image, options)
    if not good:
        raise StoreError(f"{name}: the image can't be encoded")
    return bytes(body.tobytes())


def _decode(path: str) -> NDArray[np.uint8]:
    image = cv2.imread(path, cv2.IMREAD_COLOR)
    if image is None:
        raise _damaged(path)
    return _bytes(image)


def _damaged(path: str) -> StoreError:
    return StoreError(f"{path} is missing or damaged", code="damaged", hint="capture again")


def _resize(image: NDArray[np.uint8], size: tuple[int, int], how: str) -> NDArray[np.uint8]:
    return _bytes(cv2.resize(image, size, interpolation=getattr(cv2, f"INTER_{how.upper()}")))


def _bytes(image: object) -> NDArray[np.uint8]:
    return np.asarray(image, np.uint8)
