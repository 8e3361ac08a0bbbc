"""The capture stage with a real recording, the real store and the real clock."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from agent.adapters.cameras.opencv import OpencvCamera
from agent.adapters.host.clock import SystemClock
from agent.adapters.storage.frames import OpencvFrames
from agent.config import Calibration
from agent.core.frames.input_spec import InputSpec
from agent.core.records import Digest
from agent.stages.capture import capture
from tests.support.cameras import real_clip


@pytest.mark.slow
def test_a_real_recording_gives_frames_a_model_can_be_fed_with(tmp_path):
    clip = real_clip()
    with OpencvCamera(f"file://{clip}", width=176, height=144, fps=30.0) as camera:
        found = capture(
            Calibration(frames=12, holdout=4, window_s=3),
            digest=Digest("0" * 64),
            work=str(tmp_path),
            camera=camera,
            live=False,
            frames=OpencvFrames(),
            clock=SystemClock(),
            seed=1,
            progress=lambda *_: None,
        )
    assert (len(found.frames), len(found.holdout)) == (12, 4)
    assert (found.width, found.height, found.synthetic) == (176, 144, False)
    on_disk = {path.name for path in (tmp_path / "frames").iterdir()}
    assert on_disk == set(found.frames) | set(found.holdout)
    spec = InputSpec(width=64, height=64, resize="letterbox")
    pictures = [OpencvFrames().read(str(tmp_path / "frames" / name), spec) for name in on_disk]
    assert len({picture.tobytes() for picture in pictures}) == 16

    video = cv2.VideoCapture(str(clip))
    first = video.read()[1]
    video.release()
    native = InputSpec(width=176, height=144)
    near = [
        np.abs(OpencvFrames().read(str(tmp_path / "frames" / name), native).astype(int) - first)
        for name in found.frames
    ]
    assert min(difference.mean() for difference in near) < 25, "the pictures are of this recording"
