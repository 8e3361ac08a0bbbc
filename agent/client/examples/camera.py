"""Serve a camera with the release that quantd activated, and follow it live.

    python camera.py CURRENT CAMERA [SERVED]

until SIGTERM. CURRENT is quantd's link to the active release, such as /var/lib/quantd/current; CAMERA
is a URL, a video or a device's number; SERVED is a file that gets the id of the release that is served,
for quantd's `activation.health`. It needs NumPy, OpenCV and the runtime of the release.
"""

from __future__ import annotations

import signal
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2

from agent.client import Classes, Objects, Release, ReleaseError

REPORT_EVERY_S = 10.0
LOST_AFTER_MS = 5000  # without a frame from a network camera
RETRY_S = 0.5


class Camera(threading.Thread):
    """Reads a camera and keeps the newest frame only, so that a slow model sees no old ones.

    Args:
        uri: A URL, a video or a device's number.
        ended: Set when the program ends.
    """

    def __init__(self, uri: str, ended: threading.Event) -> None:
        super().__init__(name="camera", daemon=True)
        self._uri = uri
        self._ended = ended
        self._newest: Any = None
        self._arrived = threading.Condition()

    def frame(self, timeout_s: float) -> Any:
        """Return the next frame, uint8 BGR; None if none comes within the time."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._newest is not None, timeout_s)
            frame, self._newest = self._newest, None
            return frame

    def run(self) -> None:
        """Read until the program ends; a camera that is lost is opened again."""
        while not self._ended.is_set():
            capture = self._open()
            while not self._ended.is_set() and (frame := capture.read()[1]) is not None:
                with self._arrived:
                    self._newest = frame
                    self._arrived.notify()
            if capture.isOpened() and not self._ended.is_set():
                print("the camera is lost; it is opened again", flush=True)
            capture.release()
            self._ended.wait(RETRY_S)

    def _open(self) -> Any:
        if self._uri.isdecimal():
            return cv2.VideoCapture(int(self._uri))
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, LOST_AFTER_MS]
        limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, LOST_AFTER_MS]
        return cv2.VideoCapture(self._uri, cv2.CAP_FFMPEG, limits)


def wait_for_release(current: str, ended: threading.Event) -> None:
    """Wait until quantd has activated a release for the first time, or the program ends."""
    described = Path(current, "model.json")
    if not described.exists():
        print(f"waiting for a release at {current}", flush=True)
    while not described.exists() and not ended.wait(RETRY_S):
        continue


def announce(release: Release, served: str) -> None:
    """Write the id of the release to a file, which is at no time half written."""
    if served:
        new = Path(f"{served}.new")
        new.write_text(f"{release.name}\n")
        new.replace(served)


def follow(release: Release, served: str) -> None:
    """Load the release that is active now; one that can't be used leaves the loaded one."""
    before = release.name
    try:
        if release.reload_if_changed():
            print(f"switched to release {release.name} from {before}", flush=True)
            announce(release, served)
    except ReleaseError as error:
        print(f"still release {before}: {error}", file=sys.stderr, flush=True)


def serve(release: Release, camera: Camera, served: str, ended: threading.Event) -> None:
    """Run the release on the camera's frames until the program ends."""
    took_ms: list[float] = []
    seen = None
    since = time.monotonic()
    while not ended.is_set():
        follow(release, served)
        frame = camera.frame(RETRY_S)
        if frame is not None:
            begun = time.perf_counter()
            seen = release(frame)
            took_ms.append((time.perf_counter() - begun) * 1e3)
        past_s = time.monotonic() - since
        if past_s >= REPORT_EVERY_S or ended.is_set():
            report(release, seen, took_ms, past_s)
            took_ms, since = [], time.monotonic()


def report(release: Release, seen: object, took_ms: list[float], past_s: float) -> None:
    """Print what is seen, and the figures since the last report."""
    line = f"release {release.name}: {len(took_ms) / past_s:.1f} frames/s"
    if took_ms:
        p99 = sorted(took_ms)[len(took_ms) * 99 // 100]
        line += f", a frame takes {statistics.median(took_ms):.1f} ms, p99 {p99:.1f} ms"
    if isinstance(seen, Objects):
        line += f", {len(seen)} objects"
    elif isinstance(seen, Classes):
        line += f", {seen.names[0]}"
    print(line, flush=True)


def main(current: str, uri: str, served: str = "") -> None:
    """Serve until SIGTERM or Ctrl-C."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    wait_for_release(current, ended)
    if ended.is_set():
        return
    with Release(current) as release:
        print(f"serving release {release.name}", flush=True)
        announce(release, served)
        camera = Camera(uri, ended)
        camera.start()
        serve(release, camera, served, ended)
        camera.join(LOST_AFTER_MS / 1e3)


if __name__ == "__main__":
    if len(sys.argv) not in {3, 4}:
        sys.exit("usage: camera.py CURRENT CAMERA [SERVED]")
    try:
        main(*sys.argv[1:])
    except ReleaseError as error:
        sys.exit(str(error))
