"""The demo's live camera: a video played in a loop as MJPEG over HTTP.

    python -m agent.demo.camera_server FILE PORT [WIDTHxHEIGHT]

prints `READY http://127.0.0.1:PORT/cam.mjpg` once it can be opened. Port 0 takes a free one.
"""

from __future__ import annotations

import contextlib
import http.server
import re
import signal
import sys
import threading
from typing import Any

import cv2

from agent.adapters.cameras.pace import Pace
from agent.core.errors import CameraError

_PATH = "/cam.mjpg"
_JPEG_QUALITY = 90
_DEFAULT_FPS = 15.0  # for videos without a frame rate
_SEND_TIMEOUT_S = 10.0


class CameraServer:
    """Plays a video at its own frame rate, in a loop, to any number of clients.

    Args:
        video: Path of the video.
        port: 0 takes a free one.
        size: (width, height) in px to scale to; None keeps the video's own.

    Attributes:
        url: Address of the stream, while entered.

    Raises:
        CameraError: if the file is not a video, or the port can't be used.
    """

    def __init__(self, video: str, port: int = 0, *, size: tuple[int, int] | None = None) -> None:
        self._video = video
        self._size = size
        self._capture = _opened(video)
        self._stopped = threading.Event()
        self._changed = threading.Condition()
        self._jpeg = b""
        self._number = 0
        self._clients = 0
        try:
            self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), self._client())
        except OSError as e:
            self._capture.release()
            raise CameraError(f"port {port} can't be used: {e.strerror}") from e
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}{_PATH}"
        self._threads = (
            threading.Thread(target=self._play, name="camera-server-play", daemon=True),
            threading.Thread(
                target=self._server.serve_forever, args=(0.1,), name="camera-server", daemon=True
            ),
        )

    def __enter__(self) -> CameraServer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()
        self._capture.release()

    def _play(self) -> None:
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        pace = Pace(fps if 0 < fps <= 240 else _DEFAULT_FPS, self._stopped)
        while pace.wait():
            if not self._capture.grab():
                self._capture.release()
                self._capture = _opened(self._video)
                continue
            if self._clients:
                self._publish()

    def _publish(self) -> None:
        _, image = self._capture.retrieve()
        if self._size is not None:
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_CUBIC)
        _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        with self._changed:
            self._jpeg = jpeg.tobytes()
            self._number += 1
            self._changed.notify_all()

    def _next(self, number: int) -> tuple[int, bytes] | None:
        """Wait for a frame newer than number; None if the server stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > number or self._stopped.is_set())
            return None if self._stopped.is_set() else (self._number, self._jpeg)

    @contextlib.contextmanager
    def _watching(self) -> Any:
        with self._changed:
            self._clients += 1
        try:
            yield self._number
        finally:
            with self._changed:
                self._clients -= 1

    def _client(self) -> type[http.server.BaseHTTPRequestHandler]:
        camera = self

        class Client(http.server.BaseHTTPRequestHandler):
            timeout = _SEND_TIMEOUT_S  # then a client that stopped reading is disconnected

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Log nothing: one line per request is not needed."""

            def do_GET(self) -> None:
                if self.path != _PATH:
                    self.send_error(404, f"the camera is at {_PATH}")
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                with contextlib.suppress(OSError), camera._watching() as seen:
                    number = seen
                    while (frame := camera._next(number)) is not None:
                        number, jpeg = frame
                        self.wfile.write(
                            b"--frame\r\nContent-Type: image/jpeg\r\n"
                            b"Content-Length: %d\r\n\r\n%b\r\n" % (len(jpeg), jpeg)
                        )

        return Client


def _opened(video: str) -> Any:
    capture = cv2.VideoCapture(video, cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise CameraError(f"{video} can't be read as a video", hint="check the path")
    return capture


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    size = re.fullmatch(r"([1-9]\d{1,3})x([1-9]\d{1,3})", arguments[2]) if arguments[2:] else None
    if (
        not 2 <= len(arguments) <= 3
        or not arguments[1].isdecimal()
        or bool(arguments[2:]) != bool(size)
    ):
        sys.stderr.write("usage: python -m agent.demo.camera_server FILE PORT [WIDTHxHEIGHT]\n")
        return 2
    pixels = (int(size[1]), int(size[2])) if size else None
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        with CameraServer(arguments[0], int(arguments[1]), size=pixels) as server:
            sys.stdout.write(f"READY {server.url}\n")
            sys.stdout.flush()
            ended.wait()
    except CameraError as e:
        sys.stderr.write(f"{e}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
