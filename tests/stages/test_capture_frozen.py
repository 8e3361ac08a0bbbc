"""A real HTTP camera that sends one JPEG again and again, as a frozen one does."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from agent.adapters.cameras.opencv import OpencvCamera
from agent.adapters.host.clock import SystemClock
from agent.adapters.storage.frames import OpencvFrames
from agent.config import Calibration
from agent.core.errors import CameraError
from agent.core.records import Digest
from agent.stages.capture import capture
from tests.support import cameras, scenes


def frozen(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(cameras.MJPEG_HEADER)
    part = cameras.jpeg_part(scenes.street(0))
    while True:
        connection.sendall(part)
        time.sleep(0.02)


@pytest.mark.slow
def test_the_same_picture_for_ever_is_an_error(tmp_path: Path) -> None:
    with (
        cameras.raw_server(frozen) as port,
        OpencvCamera(f"http://u:secret@127.0.0.1:{port}/", width=160, height=120, fps=30) as camera,
        pytest.raises(CameraError, match="only 1 different picture in") as caught,
    ):
        capture(
            Calibration(frames=6, holdout=3, window_s=1.0),
            digest=Digest("0" * 64),
            work=str(tmp_path),
            camera=camera,
            live=True,
            frames=OpencvFrames(),
            clock=SystemClock(),
            seed=1,
            progress=lambda *_: None,
        )
    assert caught.value.code == "frozen"
    assert "secret" not in caught.value.message
