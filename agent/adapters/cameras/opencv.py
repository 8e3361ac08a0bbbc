"""The Camera port through OpenCV: RTSP, MJPEG over HTTP, video files, V4L2 devices."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from agent.adapters.cameras.live import LiveCamera, OpenStream, Stream
from agent.adapters.cameras.pace import Pace
from agent.adapters.cameras.reachability import seen_at
from agent.core.errors import CameraError
from agent.core.frames.camera_uri import CAMERAS, path_of, redacted, scheme_of
from agent.packages import pip_install

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_OPEN_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 3.0
_KNOCK_TIMEOUT_S = 1.0
_MAX_PIXELS = 64_000_000  # 64 MP as BGR are 192 MB; beyond it no camera is behind the stream
_MAX_FILE_FPS = 240.0  # containers without a frame rate report 0, or their time base (90000)

# A default FFmpeg probe keeps 5 s of stream and hands it over as stale frames (27 at 15 fps were
# counted); with these options the first frame is a fresh one. https://ffmpeg.org/ffmpeg-formats.html
_LOW_LATENCY = (
    "fflags;nobuffer+discardcorrupt|flags;low_delay|analyzeduration;100000|probesize;50000"
)
_environment = threading.Lock()


class OpencvCamera(LiveCamera):
    """A camera or video file through OpenCV.

    Args:
        uri: rtsp://, http(s):// (MJPEG), file:// or v4l2://, credentials included.
        width: px, asked of a V4L2 device; others deliver as they are.
        height: px, as width.
        fps: Asked of a V4L2 device; the pace of a file that does not state its own.

    Raises:
        CameraError: if the scheme is another one, or this OpenCV can't read such sources.
    """

    def __init__(self, uri: str, *, width: int, height: int, fps: float) -> None:
        scheme = scheme_of(uri)
        kind = CAMERAS.get(scheme)
        source: OpenStream
        if kind and kind.port:
            source = partial(_open_network, uri, fps)
        elif scheme == "file":
            source = partial(_File, path_of(uri), fps)
        elif scheme == "v4l2":
            source = partial(_open_device, path_of(uri), width, height, fps)
        else:
            raise CameraError(
                f"{redacted(uri)}: OpenCV can't capture {scheme or 'no scheme'}://",
                hint="it captures "
                + ", ".join(one.example for one in CAMERAS.values() if "Opencv" in one.adapter),
            )
        backend = cv2.CAP_V4L2 if scheme == "v4l2" else cv2.CAP_FFMPEG
        if backend not in cv2.videoio_registry.getBackends():
            raise CameraError(
                f"{redacted(uri)}: this OpenCV {cv2.__version__} was built without "
                f"{cv2.videoio_registry.getBackendName(backend)}",
                code="missing_part",
                hint=pip_install("opencv-python"),
            )
        # Its warnings go past the log to stderr; the errors raised here have their contents.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        super().__init__(redacted(uri), source)


class _Capture:
    """One VideoCapture; its failures are CameraErrors."""

    def __init__(self, name: str, capture: Any) -> None:
        self._name = name
        self._capture = capture

    def read(self) -> NDArray[np.uint8]:
        image = self._next()
        if image is None:
            raise CameraError(f"{self._name}: the stream ended or hung", code="lost")
        return image

    def _next(self) -> NDArray[np.uint8] | None:
        try:
            ok, image = self._capture.read()
        except cv2.error as e:
            raise CameraError(f"{self._name}: a frame can't be decoded ({e.err})") from e
        if not ok:
            return None
        if image is None or image.ndim != 3 or image.shape[2] != 3 or image.dtype != "uint8":
            raise CameraError(f"{self._name}: frames are not 8-bit colour pictures")
        _require_sane_size(self._name, image.shape[1], image.shape[0])
        frame: NDArray[np.uint8] = image
        return frame

    def close(self) -> None:
        self._capture.release()


class _File(_Capture):
    """A video file as a live camera, at its own frame rate, repeated at its end."""

    def __init__(self, path: str, fps: float, stopped: threading.Event) -> None:
        super().__init__(f"file://{path}", _capture_file(path))
        self._path = path
        self._stopped = stopped
        own_fps = self._capture.get(cv2.CAP_PROP_FPS)
        self._pace = Pace(own_fps if 0 < own_fps <= _MAX_FILE_FPS else fps, stopped)

    def read(self) -> NDArray[np.uint8]:
        if not self._pace.wait():
            raise CameraError(f"{self._name}: closed", code="closed")
        image = self._next()
        if image is not None:
            return image
        # Reopening, since not every container can be rewound.
        self.close()
        self._capture = _capture_file(self._path)
        image = self._next()
        if image is None:
            raise CameraError(f"{self._name}: has no frame that can be decoded", code="not_video")
        return image


def _open_network(uri: str, fps: float, stopped: threading.Event) -> Stream:
    del stopped  # opening and reading are bounded by FFmpeg's own timeouts
    read_timeout_s = max(_READ_TIMEOUT_S, 4 / fps)
    transport = ""
    if scheme_of(uri).startswith("rtsp"):
        transport = "rtsp_transport;tcp|"
        read_timeout_s /= 3  # FFmpeg's RTSP client reads up to three times: 9 s were seen for 3 s
    with _ffmpeg_options(transport + _LOW_LATENCY):
        capture = cv2.VideoCapture(
            uri,
            cv2.CAP_FFMPEG,
            [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                int(_OPEN_TIMEOUT_S * 1e3),
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                int(read_timeout_s * 1e3),
            ],
        )
    if not capture.isOpened():
        capture.release()
        seen, hint = seen_at(uri, _KNOCK_TIMEOUT_S)
        raise CameraError(
            f"{redacted(uri)}: can't be opened: {seen}", code="unreachable", hint=hint
        )
    return _Capture(redacted(uri), _checked(redacted(uri), capture))


def _capture_file(path: str) -> Any:
    try:
        with Path(path).open("rb"):
            pass
    except (OSError, ValueError) as e:  # ValueError: a null byte in the name
        reason = e.strerror if isinstance(e, OSError) else str(e)
        raise CameraError(
            f"file://{path}: {reason}", code="unreachable", hint="check the path of the video"
        ) from e
    with _ffmpeg_options(""):
        capture = cv2.VideoCapture(str(Path(path).resolve()), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        capture.release()
        raise CameraError(
            f"file://{path}: is not a video that FFmpeg can read",
            code="not_video",
            hint="does a player show it? For a folder of pictures use images://",
        )
    return _checked(f"file://{path}", capture)


def _require_sane_size(name: str, width: int, height: int) -> None:
    """Refuse frames too large for the memory; called at opening and for every frame."""
    if width * height > _MAX_PIXELS:
        raise CameraError(
            f"{name}: frames of {width}x{height} px, the limit is {_MAX_PIXELS // 10**6} MP",
            code="too_large",
            hint="lower the camera's resolution",
        )


def _checked(name: str, capture: Any) -> Any:
    width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    try:
        _require_sane_size(name, int(width), int(height))
    except CameraError:
        capture.release()
        raise
    return capture


def _open_device(
    path: str, width: int, height: int, fps: float, stopped: threading.Event
) -> Stream:
    del stopped  # OpenCV's V4L2 reads end after 10 s by themselves
    try:
        is_device = stat.S_ISCHR(Path(path).stat().st_mode)
    except (OSError, ValueError) as e:
        raise CameraError(
            f"v4l2://{path}: there is no such device",
            code="unreachable",
            hint="v4l2-ctl --list-devices shows the cameras; is it plugged in?",
        ) from e
    if not is_device:
        raise CameraError(f"v4l2://{path}: is not a device", hint="use file:// for a video file")
    if not os.access(path, os.R_OK | os.W_OK):
        raise CameraError(
            f"v4l2://{path}: permission denied",
            code="unreachable",
            hint="the user must be in the group video",
        )
    capture = cv2.VideoCapture(path, cv2.CAP_V4L2)
    if not capture.isOpened():
        capture.release()
        raise CameraError(
            f"v4l2://{path}: can't be opened as a camera",
            code="unreachable",
            hint="is another program using it? CSI sensors deliver raw Bayer here: use csi://",
        )
    # MJPG first: over USB 2, raw frames leave only a few per second at higher resolutions.
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
    capture.set(cv2.CAP_PROP_FPS, fps)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return _Capture(f"v4l2://{path}", capture)


@contextlib.contextmanager
def _ffmpeg_options(options: str) -> Iterator[None]:
    """Set FFmpeg's options for one opening; OpenCV reads them from the environment only."""
    wanted = {
        "OPENCV_FFMPEG_CAPTURE_OPTIONS": options,
        "OPENCV_FFMPEG_LOGLEVEL": "-8",  # silent: FFmpeg's messages would show the credentials
    }
    with _environment:
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
