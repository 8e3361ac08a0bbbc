"""The Camera port by GStreamer: CSI sensors of a Jetson, V4L2 devices."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.adapters.cameras.live import LiveCamera, Stream
from agent.core.errors import CameraError
from agent.core.frames.camera_uri import path_of, redacted, scheme_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

Pipeline = Callable[[str, int, int, float], str]
"""Describes, for gst_parse_launch, a pipeline from (uri, width, height, fps) to BGR frames."""

_STALL_S = 3.0
_SLICE_NS = 100_000_000  # longest blocking pull before the bus is checked
_SINK = "appsink name=sink max-buffers=1 drop=true sync=false"
_PACKAGES = (
    "apt install python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good, and make the "
    "virtual environment with --system-site-packages"
)


class GstreamerCamera(LiveCamera):
    """A camera through a GStreamer pipeline that ends in an appsink.

    Args:
        uri: csi://SENSOR or v4l2:///dev/videoN.
        width: px.
        height: px.
        fps: Frames per second.
        describe: Another source of pipelines than `pipeline`; without the appsink.

    Raises:
        CameraError: "missing_part" without PyGObject or GStreamer; if the URI is not understood.
    """

    def __init__(
        self, uri: str, *, width: int, height: int, fps: float, describe: Pipeline | None = None
    ) -> None:
        gst = _gstreamer()
        description = (describe or pipeline)(uri, width, height, fps)
        super().__init__(
            redacted(uri), partial(_open, gst, redacted(uri), f"{description} ! {_SINK}", fps)
        )


def pipeline(uri: str, width: int, height: int, fps: float) -> str:
    """Return the description of the pipeline that captures from uri as BGR.

    Only numbers and a device path of plain characters are inserted, so that a URI can't add
    elements.

    Source: nvarguscamerasrc, NVIDIA "Accelerated GStreamer" (Jetson Linux Developer Guide).

    Raises:
        CameraError: if the URI is neither csi://SENSOR nor v4l2:///dev/...
    """
    rate = Fraction(fps).limit_denominator(1001)
    asked = f"width={width},height={height},framerate={rate.numerator}/{rate.denominator}"
    path = path_of(uri)
    if scheme_of(uri) == "csi" and re.fullmatch(r"[0-9]{1,2}", path):
        return (
            f"nvarguscamerasrc sensor-id={path} ! video/x-raw(memory:NVMM),{asked} ! nvvidconv"
            " ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR"
        )
    if scheme_of(uri) == "v4l2" and re.fullmatch(r"/dev/[A-Za-z0-9_./:+-]+", path):
        # Size and rate are pinned: left free, v4l2src was seen to settle on 1.5 fps.
        return (
            f'v4l2src device={path} ! capsfilter caps="video/x-raw,{asked};image/jpeg,{asked}"'
            " ! decodebin ! videoconvert ! video/x-raw,format=BGR"
        )
    raise CameraError(
        f"{redacted(uri)}: is not a camera that GStreamer is used for",
        hint="csi://0, or v4l2:///dev/video0",
    )


class _Appsink:
    """A playing pipeline, pulled in slices so that errors on its bus are detected at once."""

    def __init__(
        self, gst: Any, name: str, playing: Any, stopped: threading.Event, stall_s: float
    ) -> None:
        self._gst = gst
        self._name = name
        self._pipeline = playing
        self._sink = playing.get_by_name("sink")
        self._bus = playing.get_bus()
        self._stopped = stopped
        self._stall_s = stall_s

    def read(self) -> NDArray[np.uint8]:
        deadline_s = time.monotonic() + self._stall_s
        while not self._stopped.is_set():
            sample = self._sink.emit("try-pull-sample", _SLICE_NS)
            if sample is not None:
                return self._image(sample)
            self.raise_error()
            if time.monotonic() > deadline_s:
                raise CameraError(
                    f"{self._name}: no frame for {self._stall_s:g} s, the pipeline hangs",
                    code="lost",
                )
        raise CameraError(f"{self._name}: closed", code="closed")

    def close(self) -> None:
        self._pipeline.set_state(self._gst.Gst.State.NULL)

    def raise_error(self) -> None:
        """Raise the error on the pipeline's bus, if any."""
        kinds = self._gst.Gst.MessageType
        message = self._bus.pop_filtered(kinds.ERROR | kinds.EOS)
        if message is None:
            return
        if message.type == kinds.EOS:
            raise CameraError(f"{self._name}: the stream ended", code="lost")
        error, detail = message.parse_error()
        last_line = (detail or "").strip().rpartition("\n")[2]
        reason = f"{error.message} ({last_line})"
        raise CameraError(
            f"{self._name}: GStreamer: {reason[:300]}", code="lost", hint=_hint(reason)
        )

    def _image(self, sample: Any) -> NDArray[np.uint8]:
        """Copy a BGR sample; GStreamer pads its rows to multiples of 4 bytes."""
        caps = sample.get_caps().get_structure(0)
        width, height = caps.get_value("width"), caps.get_value("height")
        buffer = sample.get_buffer()
        size = buffer.get_size()
        stride = (3 * width + 3) // 4 * 4
        if caps.get_value("format") != "BGR" or size != stride * height:
            raise CameraError(f"{self._name}: {size} bytes are not {width}x{height} BGR pixels")
        rows = np.frombuffer(buffer.extract_dup(0, size), np.uint8).reshape(height, stride)
        image: NDArray[np.uint8] = rows[:, : 3 * width].reshape(height, width, 3).copy()
        return image


def _open(gst: Any, name: str, description: str, fps: float, stopped: threading.Event) -> Stream:
    try:
        playing = gst.Gst.parse_launch(description)
    except gst.GLib.Error as e:
        raise CameraError(
            f"{name}: GStreamer can't make the pipeline: {e.message}",
            code="missing_part",
            hint=f"csi:// needs a Jetson (nvidia-l4t-gstreamer); else {_PACKAGES}",
        ) from e
    stream = _Appsink(gst, name, playing, stopped, max(_STALL_S, 4 / fps))
    if playing.set_state(gst.Gst.State.PLAYING) == gst.Gst.StateChangeReturn.FAILURE:
        try:
            stream.raise_error()
            raise CameraError(f"{name}: GStreamer can't start the pipeline", code="unreachable")
        finally:
            stream.close()
    return stream


def _hint(reason: str) -> str:
    if "not-negotiated" in reason:
        return "the camera lacks this size or rate: v4l2-ctl --list-formats-ext shows what it has"
    if "busy" in reason.lower():
        return "another program is using the camera"
    return "is the camera plugged in? For csi://, is nvargus-daemon running?"


def _gstreamer() -> Any:
    """Return gi.repository with Gst loaded.

    Raises:
        CameraError: naming the packages to install.
    """
    try:
        import gi

        gi.require_version("Gst", "1.0")
        gi.require_version("GstApp", "1.0")
        from gi import repository
        from gi.repository import GLib, Gst, GstApp  # noqa: F401
    except (ImportError, ValueError) as e:
        raise CameraError(
            f"GStreamer can't be used from Python: {e}", code="missing_part", hint=_PACKAGES
        ) from e
    if not Gst.is_initialized():
        Gst.init(None)
    return repository
