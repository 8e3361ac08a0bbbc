"""Cameras over files: folders, profiles, videos, and what is wrong with them."""

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.adapters.cameras.images import ImagesCamera
from agent.adapters.cameras.opencv import OpencvCamera
from agent.adapters.cameras.profile import ProfileCamera
from agent.adapters.cameras.synthetic import SyntheticCamera
from agent.core.errors import CameraError
from tests.support import cameras

SIZE = {"width": 64, "height": 48, "fps": 500.0}


def test_images_come_in_the_order_of_names_and_again(tmp_path: Path) -> None:
    for number, name in ((3, "c.PNG"), (1, "a.png"), (2, "b.jpeg")):
        cv2.imwrite(str(tmp_path / name), cameras.numbered(number))
    (tmp_path / "notes.txt").write_text("no picture")
    with ImagesCamera(f"images://{tmp_path}", **SIZE) as camera:
        frames = [camera.read(1.0) for _ in range(4)]
        assert [cameras.number_in(frame.image) for frame in frames] == [1, 2, 3, 1]
        assert [frame.origin for frame in frames] == ["a.png", "b.jpeg", "c.PNG", "a.png"]
        assert not camera.synthetic


def test_grey_and_transparent_pictures_become_colour(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((8, 9), 7, np.uint8))
    cv2.imwrite(str(tmp_path / "b.png"), np.full((8, 9, 4), 7, np.uint8))
    with ImagesCamera(f"images://{tmp_path}", **SIZE) as camera:
        assert [camera.read(1.0).image.shape for _ in range(2)] == [(8, 9, 3)] * 2


def test_a_broken_picture_is_named_and_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    cv2.imwrite(str(tmp_path / "b.png"), cameras.numbered(5))
    with ImagesCamera(f"images://{tmp_path}", **SIZE) as camera:
        with pytest.raises(CameraError, match=r"a\.png: can't be read as a picture"):
            camera.read(1.0)
        assert cameras.number_in(camera.read(1.0).image) == 5


@pytest.mark.parametrize("name", ["absent", "empty", "nul\0"])
def test_a_folder_without_pictures_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CameraError) as error:
        ImagesCamera(f"images://{tmp_path}/{name}", **SIZE)
    assert error.value.code == "unreachable"


def test_a_profile_gives_each_frame_once(tmp_path: Path) -> None:
    cameras.write_video(tmp_path / "clip.avi", frames=12, fps=30)
    cv2.imwrite(str(tmp_path / "x.png"), cameras.numbered(99))
    (tmp_path / "p.csv").write_text(
        "\ufeffframe_index,video,frame,latency_ms,precision\n"
        "3,clip.avi,,5,fp32\n3,clip.avi,,2,int8\n9,clip.avi,,5,fp32\n1,clip.avi,,5,fp32\n"
        ",,x.png,5,fp32\n",
        encoding="utf-8",
    )
    with ProfileCamera(f"profile://{tmp_path}/p.csv", **SIZE) as camera:
        frames = [camera.read(1.0) for _ in range(6)]
        numbers = [cameras.number_in(frame.image) for frame in frames]
        assert numbers == [3, 9, 1, 99, 3, 9]
        assert [frame.origin for frame in frames[1:4]] == ["clip.avi#9", "clip.avi#1", "x.png"]
        assert not camera.synthetic


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("absent.png,,", r"line 2: .*absent\.png can't be read"),
        (",clip.avi,12", r"line 2: .*clip\.avi has no frame 12, or can't be read"),
        (",absent.avi,0", r"line 2: .*absent\.avi has no frame 0"),
    ],
)
def test_a_frame_that_is_not_there_is_named_with_its_line(
    tmp_path: Path, row: str, words: str
) -> None:
    cameras.write_video(tmp_path / "clip.avi", frames=12, fps=30)
    (tmp_path / "p.csv").write_text(f"frame,video,frame_index\n{row}\n")
    camera = ProfileCamera(f"profile://{tmp_path}/p.csv", **SIZE)
    with camera, pytest.raises(CameraError, match=words):
        camera.read(1.0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"frame\n\xff\xfe.png\n", "is not UTF-8"),
        (b"frame,latency_ms\na.png,quick\n", "p.csv: line 2: latency_ms"),
    ],
)
def test_a_bad_profile_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "p.csv").write_bytes(content)
    with pytest.raises(CameraError, match=words):
        ProfileCamera(f"profile://{tmp_path}/p.csv", **SIZE)


def test_a_video_file_plays_from_the_start_again_and_that_is_no_loss(tmp_path: Path) -> None:
    file = cameras.write_video(tmp_path / "a b.avi", frames=4, fps=100)
    with OpencvCamera(f"file://{tmp_path}/a%20b.avi", **SIZE) as camera:
        numbers = [cameras.number_in(camera.read(5.0).image) for _ in range(9)]
        assert camera.lost == 0
    assert file.exists()
    assert set(numbers) == {0, 1, 2, 3}
    assert any(later < earlier for earlier, later in itertools.pairwise(numbers))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file or directory"),
        (b"", "is not a video"),
        (b"\x00\x01garbage" * 500, "is not a video"),
    ],
)
def test_a_file_that_is_no_video_is_reported_at_once(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "clip.mp4").write_bytes(content)
    camera = OpencvCamera(f"file://{tmp_path}/clip.mp4", **SIZE)
    with camera, pytest.raises(CameraError, match=words) as error:
        camera.read(30.0)
    assert error.value.hint


def test_a_truncated_video_plays_what_it_has(tmp_path: Path) -> None:
    file = cameras.write_video(tmp_path / "clip.avi", frames=40, fps=100)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with OpencvCamera(f"file://{file}", **SIZE) as camera:
        assert camera.read(5.0).image.shape == (240, 320, 3)


@pytest.mark.parametrize("uri", ["ftp://cam/x", "clip.mp4", ""])
def test_a_scheme_of_others_is_refused(uri: str) -> None:
    with pytest.raises(CameraError, match="OpenCV can't capture") as error:
        OpencvCamera(uri, **SIZE)
    assert "rtsp://" in error.value.hint


def test_a_device_that_is_not_there_or_not_a_device_is_reported(tmp_path: Path) -> None:
    (tmp_path / "video0").write_bytes(b"")
    for path, words in (
        (tmp_path / "video9", "no such device"),
        (tmp_path / "video0", "is not a device"),
        ("/dev/null", "can't be opened as a camera"),
    ):
        camera = OpencvCamera(f"v4l2://{path}", **SIZE)
        with camera, pytest.raises(CameraError, match=words):
            camera.read(30.0)


def test_the_pattern_is_the_same_for_the_same_seed_and_moves() -> None:
    def first_two(uri: str) -> list[np.ndarray]:
        with SyntheticCamera(uri, **SIZE) as camera:
            assert camera.synthetic
            return [camera.read(1.0).image for _ in range(2)]

    ours, again, other = (
        first_two("synthetic://7"),
        first_two("synthetic://7"),
        first_two("synthetic://"),
    )
    assert all(np.array_equal(a, b) for a, b in zip(ours, again, strict=True))
    assert not np.array_equal(ours[0], ours[1])
    assert not np.array_equal(ours[0], other[0])
    assert ours[0].shape == (48, 64, 3)
    assert ours[0].std() > 20


def test_a_seed_that_is_no_number_is_refused() -> None:
    with pytest.raises(CameraError, match="is not a seed"):
        SyntheticCamera("synthetic://x", **SIZE)
