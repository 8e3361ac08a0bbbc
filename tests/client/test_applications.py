"""The example applications serve a live camera and follow `current` while quantd switches it."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agent.client import examples
from agent.config.toml import read_toml
from agent.core.frames.input_spec import InputSpec
from agent.demo.broker import running
from agent.demo.camera_server import CameraServer
from tests.support.cpp import compiled
from tests.support.small_releases import small_release, switch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
_LIMIT_S = 90.0
SPEC = InputSpec(width=32, height=24, scale=1 / 255)


@pytest.fixture(scope="module", params=["python", "cpp"])
def program(request: Any, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of an application, without its arguments."""
    if request.param == "cpp":
        return [str(compiled(tmp_path_factory.mktemp("ort")))]
    return [sys.executable, str(Path(examples.__path__[0], "camera.py"))]


@pytest.fixture
def video(tmp_path: Path) -> str:
    path = str(tmp_path / "video.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 20, (64, 48))
    source = np.random.default_rng(1)
    for _ in range(20):
        writer.write(source.integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()
    return path


class Application:
    """A running application; its lines are read as they come."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def until(self, *words: str) -> str:
        """Return the next line that has all words."""
        deadline, seen = time.monotonic() + _LIMIT_S, [""]
        while not all(word in seen[-1] for word in words):
            try:
                seen.append(self.lines.get(timeout=max(deadline - time.monotonic(), 0)))
            except queue.Empty:
                raise AssertionError(f"no line with {words}: {seen}") from None
        return seen[-1]

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(30)
        self._reader.join()
        return status


@pytest.fixture
def application(program: list[str], video: str, tmp_path: Path) -> Iterator[Any]:
    """Return a function that starts it with a camera's address."""
    started: list[Application] = []

    def start(camera: str) -> Application:
        started.append(Application([*program, str(tmp_path / "current"), camera]))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
        assert one.process.stdout is not None
        one.process.stdout.close()


def frames_per_s(line: str) -> float:
    found = re.search(r": (\S+) frames/s", line)
    assert found is not None
    return float(found[1])


def test_it_follows_the_active_release_and_outlives_its_camera(application, video, tmp_path):
    current = tmp_path / "current"
    first, second = (small_release(tmp_path / name, SPEC, seed=len(name)) for name in ("a1", "b22"))
    unusable = small_release(tmp_path / "c", SPEC, runtime={"providers": ["None"]})
    with CameraServer(video) as camera:
        port = int(camera.url.split(":")[2].split("/")[0])
        running = application(camera.url)
        running.until("waiting for a release")
        switch(current, first)
        running.until("serving release a1")
        assert frames_per_s(running.until("release a1:", "a frame takes")) > 1
        switch(current, second)
        running.until("switched to release b22 from a1")
        switch(current, unusable)
        running.until("still release b22: ", "None")
        assert frames_per_s(running.until("release b22:", "a frame takes")) > 1
    running.until("camera is lost")
    while frames_per_s(running.until("release b22:")):
        continue
    with CameraServer(video, port):
        assert frames_per_s(running.until("release b22:", "a frame takes")) > 0
        switch(current, first)
        running.until("switched to release a1 from b22")
        assert running.end() == 0
        running.until("release a1:")


def test_it_ends_while_it_waits_for_the_first_release(application, tmp_path):
    running = application("http://127.0.0.1:9/cam.mjpg")
    running.until("waiting for a release")
    assert running.end() == 0


def test_without_its_arguments_it_shows_them(program):
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "CURRENT CAMERA" in done.stderr


def test_the_printed_health_command_waits_until_the_new_release_is_served(tmp_path, video):
    shipped = (Path(__file__).parents[2] / "configs/quantd.toml").read_text()
    (example,) = re.findall(r"^# (health = \[.+\])$", shipped, re.MULTILINE)
    (tmp_path / "example.toml").write_text(
        example.replace("/run/my-app/served", f"{tmp_path}/served")
    )
    health = read_toml(tmp_path / "example.toml")["health"]
    first, second = (small_release(tmp_path / name, SPEC, seed=len(name)) for name in ("a1", "b22"))
    switch(tmp_path / "current", first)
    program = Path(examples.__path__[0], "camera.py")
    with running(
        tmp_path / "log", sys.executable, str(program), str(tmp_path / "current"), video,
        str(tmp_path / "served"),
    ):  # fmt: skip
        for release in (first, second):
            switch(tmp_path / "current", release)
            done = subprocess.run(
                health, env={**os.environ, "QUANTD_RELEASE": release.name}, timeout=60, check=False
            )
            assert done.returncode == 0
        environment = {**os.environ, "QUANTD_RELEASE": "b2"}
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(health, env=environment, timeout=1, check=False)
