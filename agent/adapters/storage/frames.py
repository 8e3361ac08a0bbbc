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

_THUMBNAIL_WIDTH = 240
_BEGIN = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_HEADER = struct.Struct(">16sII")  # of a PNG: _BEGIN, width, height


class OpencvFrames:
    """Implements `ports.FrameStore`."""

    def write(self, directory: str, name: str, image: NDArray[np.uint8]) -> None:
        """See `ports.FrameStore`."""
        self._encode(directory, name, ".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])

    def remove(self, directory: str, name: str) -> None:
        """See `ports.FrameStore`."""
        with disk_errors(Path(directory)):
            Path(directory, name).unlink(missing_ok=True)

    def thumbnail(self, path: str, directory: str) -> None:
        """Store a JPEG of 240 px width; see `ports.FrameStore`."""
        image = _decode(path)
        height, width = image.shape[:2]
        size = (_THUMBNAIL_WIDTH, max(1, round(height * _THUMBNAIL_WIDTH / width)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        name = Path(path).stem + ".jpg"
        self._encode(directory, name, ".jpg", _bytes(small), [cv2.IMWRITE_JPEG_QUALITY, 80])

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

    @staticmethod
    def _encode(
        directory: str, name: str, kind: str, image: NDArray[np.uint8], options: list[int]
    ) -> None:
        good, body = cv2.imencode(kind, image, options)
        if not good:
            raise StoreError(f"{name}: the image can't be encoded")
        write_atomically(Path(directory, name), body.tobytes())


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
