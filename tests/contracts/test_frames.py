"""The FrameStore port: the fake that stages are tested with, and OpenCV's."""

from __future__ import annotations

import contextlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.adapters.storage.frames import OpencvFrames
from agent.core.errors import StoreError
from agent.core.frames.input_spec import InputSpec
from tests.fakes.cameras import FakeFrames
from tests.support import scenes

NATIVE = InputSpec(width=scenes.WIDTH, height=scenes.HEIGHT)


@pytest.fixture(params=[FakeFrames, OpencvFrames])
def frames(request):
    return request.param()


def test_what_was_written_is_read_bit_for_bit(frames, tmp_path):
    for number in range(3):
        frames.write(str(tmp_path / "frames"), f"{number:08d}.png", scenes.street(number))
    for number in range(3):
        read = frames.read(str(tmp_path / f"frames/{number:08d}.png"), NATIVE)
        assert read.dtype == np.uint8
        assert np.array_equal(read, scenes.street(number))


def test_the_size_is_that_of_the_picture(frames, tmp_path):
    frames.write(str(tmp_path), "a.png", scenes.street(1))
    assert frames.size(str(tmp_path / "a.png")) == (scenes.WIDTH, scenes.HEIGHT)


def test_the_writer_may_use_its_image_again(frames, tmp_path):
    image = scenes.street(1).copy()
    frames.write(str(tmp_path), "00000001.png", image)
    image[:] = 0
    assert frames.read(str(tmp_path / "00000001.png"), NATIVE).any()


def test_writing_again_replaces_and_removing_twice_is_no_error(frames, tmp_path):
    path = str(tmp_path / "a.png")
    frames.write(str(tmp_path), "a.png", scenes.street(1))
    frames.write(str(tmp_path), "a.png", scenes.street(2))
    assert np.array_equal(frames.read(path, NATIVE), scenes.street(2))
    frames.remove(str(tmp_path), "a.png")
    frames.remove(str(tmp_path), "a.png")
    with pytest.raises((StoreError, KeyError)):
        frames.read(path, NATIVE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one street.png of 160x120."""
    folder = tmp_path_factory.mktemp("frames")
    OpencvFrames().write(str(folder), "street.png", scenes.street(1))
    return folder


def read(folder, width, height, resize="stretch"):
    spec = InputSpec(width=width, height=height, resize=resize)
    return OpencvFrames().read(str(folder / "street.png"), spec)


def test_no_temporary_file_is_left(folder):
    assert [p.name for p in folder.iterdir()] == ["street.png"]


@pytest.mark.parametrize(("width", "height"), [(80, 60), (53, 41), (160, 30)])
def test_shrinking_is_by_area_so_nothing_aliases(folder, width, height):
    expected = cv2.resize(scenes.street(1), (width, height), interpolation=cv2.INTER_AREA)
    assert np.array_equal(read(folder, width, height), expected)


@pytest.mark.parametrize(("width", "height"), [(320, 240), (161, 500), (320, 60)])
def test_growing_is_linear(folder, width, height):
    expected = cv2.resize(scenes.street(1), (width, height), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(read(folder, width, height), expected)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(width=st.integers(1, 400), height=st.integers(1, 400))
def test_a_letterbox_keeps_the_aspect_ratio_and_pads_with_114(folder, width, height):
    image = read(folder, width, height, "letterbox")
    assert image.shape == (height, width, 3)
    scale = min(width / scenes.WIDTH, height / scenes.HEIGHT)
    inner_w = max(1, round(scenes.WIDTH * scale))
    inner_h = max(1, round(scenes.HEIGHT * scale))
    left, top = (width - inner_w) // 2, (height - inner_h) // 2
    inside = image[top : top + inner_h, left : left + inner_w]
    assert np.array_equal(inside, read(folder, inner_w, inner_h))
    outside = np.ones(image.shape[:2], bool)
    outside[top : top + inner_h, left : left + inner_w] = False
    assert (image[outside] == 114).all()


@pytest.mark.parametrize(("side_px", "most_bytes"), [(480, 14_000), (160, 4_000)])
@pytest.mark.parametrize("picture", ["scene", "noise", "tall"])
def test_a_small_jpeg_is_as_small_as_was_asked_for(tmp_path, picture, side_px, most_bytes):
    image = {
        "scene": np.tile(scenes.street(1), (5, 5, 1)),
        "noise": np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8),
        "tall": np.tile(scenes.street(1), (5, 1, 1)),
    }[picture]
    OpencvFrames().write(str(tmp_path), "7.png", image)
    body = OpencvFrames().jpeg(str(tmp_path / "7.png"), side_px, most_bytes)
    assert len(body) <= most_bytes
    small = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    assert max(small.shape) <= side_px
    aspect = image.shape[1] / image.shape[0]
    assert small.shape[1] / small.shape[0] == pytest.approx(aspect, rel=0.03)


def test_a_frame_smaller_than_asked_for_keeps_its_size(tmp_path):
    OpencvFrames().write(str(tmp_path), "7.png", np.zeros((40, 60, 3), np.uint8))
    body = OpencvFrames().jpeg(str(tmp_path / "7.png"), 480, 14_000)
    small = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    assert small.shape == (40, 60, 3)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", None])
def test_what_is_no_picture_is_reported_as_damaged(tmp_path, content):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        OpencvFrames().read(str(path), NATIVE)
    assert caught.value.code == "damaged"
    assert str(path) in caught.value.message
    with pytest.raises(StoreError, match=r"missing or damaged"):
        OpencvFrames().size(str(path))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_is_reported_as_damaged(folder, share):
    whole = (folder / "street.png").read_bytes()
    cut = Path(folder, "cut.bin")
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(StoreError, match="damaged"):
        OpencvFrames().read(str(cut), NATIVE)
    cut.unlink()


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_is_reported_or_changes_nothing(folder, data):
    """A wrong pixel would go unnoticed into the calibration."""
    whole = bytearray((folder / "street.png").read_bytes())
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    flipped = Path(folder, "flipped.bin")
    flipped.write_bytes(whole)
    with contextlib.suppress(StoreError):
        assert np.array_equal(OpencvFrames().read(str(flipped), NATIVE), scenes.street(1))
    flipped.unlink()
