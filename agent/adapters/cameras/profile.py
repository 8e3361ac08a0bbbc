"""The Camera port for the frames of a profiling CSV."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from agent.adapters.cameras.pace import PacedCamera
from agent.core.errors import CameraError
from agent.core.frames.camera_uri import path_of
from agent.core.frames.profile import parse_profile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ProfileCamera(PacedCamera):
    """The frames of the CSV without duplicates, in its order, repeated.

    Args:
        uri: profile:///profiles.csv; paths in it are relative to its folder.
        width: px, not used: frames come in their own size.
        height: px, as width.
        fps: Frames per second.

    Raises:
        CameraError: if the CSV can't be read or has invalid values.
    """

    def __init__(self, uri: str, *, width: int, height: int, fps: float) -> None:
        del width, height
        self._file = Path(path_of(uri))
        try:
            with self._file.open(encoding="utf-8-sig", newline="") as lines:
                rows = parse_profile(lines)
        except CameraError as e:
            raise CameraError(f"{uri}: {e.message}", code=e.code, hint=e.hint) from e
        except UnicodeDecodeError as e:
            raise CameraError(f"{uri}: is not UTF-8 text", code="bad_profile") from e
        except (OSError, ValueError) as e:
            reason = e.strerror if isinstance(e, OSError) else str(e)
            raise CameraError(
                f"{uri}: {reason}", code="unreachable", hint="check the path of the profile"
            ) from e
        # A frame has a row for each model and precision that was profiled on it.
        frames = {(row.frame, row.frame_index): row for row in reversed(rows)}
        self._frames = tuple(reversed(frames.values()))
        self._video = _Video()
        super().__init__(uri, fps, self._at, name=self._name_of)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._video.close()

    def _name_of(self, sequence: int) -> str:
        row = self._frames[sequence % len(self._frames)]
        return row.frame if row.frame_index is None else f"{row.frame}#{row.frame_index}"

    def _at(self, sequence: int) -> NDArray[np.uint8]:
        row = self._frames[sequence % len(self._frames)]
        path = str(self._file.parent / row.frame)
        try:
            if row.frame_index is None:
                image: NDArray[np.uint8] | None = cv2.imread(path, cv2.IMREAD_COLOR)
            else:
                image = self._video.frame(path, row.frame_index)
        except cv2.error as e:
            raise CameraError(f"{self.source}: line {row.line}: {e.err}", code="not_image") from e
        if image is None:
            index = "" if row.frame_index is None else f" has no frame {row.frame_index}, or"
            raise CameraError(
                f"{self.source}: line {row.line}: {path}{index} can't be read",
                code="not_image",
                hint="paths in a profile are relative to its folder",
            )
        return image


class _Video:
    """Frames of videos by number; ascending numbers of one video decode it once."""

    def __init__(self) -> None:
        self._path = ""
        self._capture: Any = None
        self._position = 0

    def frame(self, path: str, index: int) -> NDArray[np.uint8] | None:
        """Return the frame, HWC uint8 BGR; None if the video can't be read or is too short."""
        if path != self._path or index < self._position:
            self.close()
            # Decode from the start, since seeking lands on key frames in some containers.
            self._capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
            self._path, self._position = path, 0
        while self._position < index:
            if not self._capture.grab():
                self.close()
                return None
            self._position += 1
        ok, image = self._capture.read()
        self._position += 1
        if not ok:
            self.close()
            return None
        frame: NDArray[np.uint8] = image
        return frame

    def close(self) -> None:
        """Close the open video, if any."""
        if self._capture is not None:
            self._capture.release()
        self._capture, self._path = None, ""
