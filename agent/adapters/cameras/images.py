"""The Camera port over a folder of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from agent.adapters.cameras.pace import PacedCamera
from agent.core.errors import CameraError
from agent.core.frames.camera_uri import path_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


class ImagesCamera(PacedCamera):
    """The jpg and png files of a folder in the order of their names, repeated.

    Args:
        uri: images:///folder.
        width: px, not used: pictures come in their own size.
        height: px, as width.
        fps: Pictures per second.

    Raises:
        CameraError: if the folder can't be read or has no picture.
    """

    def __init__(self, uri: str, *, width: int, height: int, fps: float) -> None:
        del width, height
        folder = Path(path_of(uri))
        try:
            names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES)
        except (OSError, ValueError) as e:
            reason = e.strerror if isinstance(e, OSError) else str(e)
            raise CameraError(
                f"{uri}: {reason}", code="unreachable", hint="check the path of the folder"
            ) from e
        if not names:
            raise CameraError(f"{uri}: contains no .jpg or .png file", code="unreachable")
        self._files = tuple(folder / name for name in names)
        super().__init__(uri, fps, self._at, name=lambda sequence: self._file(sequence).name)

    def _file(self, sequence: int) -> Path:
        return self._files[sequence % len(self._files)]

    def _at(self, sequence: int) -> NDArray[np.uint8]:
        file = self._file(sequence)
        try:
            image: NDArray[np.uint8] | None = cv2.imread(str(file), cv2.IMREAD_COLOR)
        except cv2.error as e:  # more pixels than OpenCV accepts
            raise CameraError(f"{file}: {e.err}", code="not_image") from e
        if image is None:
            raise CameraError(
                f"{file}: can't be read as a picture", code="not_image", hint="remove or replace it"
            )
        return image
