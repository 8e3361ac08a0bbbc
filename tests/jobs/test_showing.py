"""Frames for the page: batches with their names, and small pictures only where they may be."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest

from agent import config as configuration
from agent.adapters.storage.frames import OpencvFrames
from agent.core.fidelity.results import FrameSize
from agent.core.records import (
    CalibrationSet,
    CleanModel,
    Digest,
    Rejected,
    Scene,
    Scenes,
    TensorSpec,
)
from agent.jobs.showing import _batches, pictures
from tests.support import scenes as street

CAMERA = {"camera": {"uri": "file:///x"}}
MODEL = CleanModel(
    digest=Digest("m"), name="m", sha256="s", opset=17, macs=1, weight_bytes=1, changes=(),
    activation_bytes=1, inputs=(TensorSpec(name="image", shape=(1, 3, 8, 8), dtype="float32"),),
    outputs=(),
)  # fmt: skip


@pytest.fixture
def captured(tmp_path: Path) -> tuple[CalibrationSet, Path]:
    """Fourteen calibration frames and five held out, in no order, of different sizes."""
    frames = tuple(f"{n:08d}.png" for n in range(14))
    holdout = tuple(f"{n:08d}.png" for n in (24, 21, 22, 20, 23))
    for place, name in enumerate((*frames, *holdout)):
        image = np.tile(street.street(place), (4, 4, 1))
        OpencvFrames().write(str(tmp_path / "frames"), name, image[: 200 + place])
    return (
        CalibrationSet(
            digest=Digest("c"), source="x", synthetic=False, width=1, height=1, frames=frames,
            holdout=holdout, seen=19, lost=0, rejected=Rejected(),
        ),
        tmp_path,
    )  # fmt: skip


def test_frames_come_in_the_order_of_capture_each_with_its_size(captured):
    config = configuration.from_dump(CAMERA)
    found = list(_batches(config, MODEL, captured, 2))
    names = [[name for name, _ in batch] for batch, _ in found]
    assert names == [["00000020.png", "00000021.png"], ["00000022.png", "00000023.png"]]
    assert [inputs["image"].shape for _, inputs in found] == [(2, 3, 8, 8)] * 2
    assert found[0][0][0][1] == FrameSize(width=4 * street.WIDTH, height=217)
    assert len(list(_batches(config, MODEL, captured, 1))) == 5


def test_four_frames_cost_less_than_80_kb_in_the_page(captured):
    shown = tuple(
        Scene(frame=name, width=9, height=9, words="", views={}) for name in captured[0].holdout[:4]
    )
    large, small = pictures(configuration.from_dump(CAMERA), Scenes(scenes=shown), captured)
    assert list(large) == [one.frame for one in shown]
    assert sum(len(base64.b64encode(one)) for one in large.values()) < 80_000
    assert len(small) == 12


@pytest.mark.parametrize(
    "table", [{"report": {"thumbnails": False}}, {"calibration": {"keep": "stats"}}]
)
def test_where_no_picture_may_be_shown_no_frame_is_read(captured, table):
    config = configuration.from_dump(CAMERA | table)
    gone = captured[0], Path("/nowhere")
    scene = Scene(frame="00000020.png", width=9, height=9, words="", views={})
    assert pictures(config, Scenes(scenes=(scene,)), gone) == ({}, [])
