"""What every camera must do, on every adapter and real servers."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.adapters.cameras.gstreamer import GstreamerCamera
from agent.adapters.cameras.images import ImagesCamera
from agent.adapters.cameras.opencv import OpencvCamera
from agent.adapters.cameras.profile import ProfileCamera
from agent.adapters.cameras.synthetic import SyntheticCamera
from agent.core.errors import CameraError
from agent.core.frames.camera_uri import CAMERAS
from agent.core.frames.frame import Frame
from agent.ports import Camera
from tests.support import cameras

FPS = 15.0
FRAMES = 450  # 30 s: no test sees the video start again, so numbers only grow


@dataclass(frozen=True)
class Case:
    """A camera to be entered, whether its pictures are numbered, and its server if it has one."""

    camera: Callable[[], Camera]
    numbered: bool = True
    synthetic: bool = False
    server: cameras.ServerProcess | None = None


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cameras.write_video(
        tmp_path_factory.mktemp("video") / "numbered.avi", frames=FRAMES, fps=FPS
    )


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(60):
        cv2.imwrite(str(folder / f"{number:03}.png"), cameras.numbered(number))
    (folder / "profile.csv").write_text(
        "latency_ms,frame,timestamp\n" + "".join(f"5.5,{n:03}.png,{n}\n" for n in range(60))
    )
    return folder


def opencv(uri: str) -> OpencvCamera:
    return OpencvCamera(uri, width=320, height=240, fps=FPS)


@pytest.fixture
def case(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Case]:
    kind = request.param
    with contextlib.ExitStack() as stack:
        if kind in {"images", "profile"}:
            folder = request.getfixturevalue("pictures")
            size = {"width": 320, "height": 240, "fps": 60.0}
            if kind == "images":
                yield Case(lambda: ImagesCamera(f"images://{folder}", **size))
            else:
                yield Case(lambda: ProfileCamera(f"profile://{folder}/profile.csv", **size))
        elif kind == "synthetic":
            yield Case(
                lambda: SyntheticCamera("synthetic://3", width=320, height=240, fps=60.0),
                numbered=False,
                synthetic=True,
            )
        else:
            video = request.getfixturevalue("video")
            if kind.startswith("gstreamer"):
                cameras.require_gstreamer(tmp_path, monkeypatch)
            if kind == "file":
                yield Case(lambda: opencv(f"file://{video}"))
            elif kind == "mjpeg":
                server = stack.enter_context(cameras.mjpeg_server(video))
                yield Case(lambda: opencv(server.url), server=server)
            elif kind == "rtsp":
                server = stack.enter_context(cameras.rtsp_server(video))
                yield Case(lambda: opencv(server.url), server=server)
            elif kind == "gstreamer-rtsp":
                server = stack.enter_context(cameras.rtsp_server(video))
                yield Case(
                    lambda: gstreamer(
                        f"rtspsrc location={server.url} latency=0 protocols=tcp ! decodebin"
                    ),
                    server=server,
                )
            else:
                assert kind == "gstreamer"
                yield Case(
                    lambda: gstreamer(
                        f"filesrc location={video} ! avidemux ! jpegdec ! identity sync=true"
                    )
                )


def gstreamer(source: str) -> GstreamerCamera:
    return GstreamerCamera(
        "test://",
        width=320,
        height=240,
        fps=FPS,
        describe=lambda *_: f"{source} ! videoconvert ! video/x-raw,format=BGR",
    )


PACED = ["images", "profile", "synthetic"]
SERVED = ["mjpeg", "rtsp", "gstreamer-rtsp"]
THREADED = ["file", "gstreamer", *SERVED]
slow = pytest.mark.slow
gi_warning = pytest.mark.filterwarnings("ignore:DynamicImporter:ImportWarning")
each_camera = pytest.mark.parametrize(
    "case",
    [*PACED, *(pytest.param(kind, marks=[slow, gi_warning]) for kind in THREADED)],
    indirect=True,
)


def params(*kinds: str) -> pytest.MarkDecorator:
    marked = [pytest.param(kind, marks=[slow, gi_warning]) for kind in kinds]
    return pytest.mark.parametrize("case", marked, indirect=True)


@each_camera
def test_frames_are_pictures_in_order_and_none_comes_twice(case: Case) -> None:
    with case.camera() as camera:
        frames = [camera.read(10.0) for _ in range(10)]
        assert camera.lost == 0
        assert camera.synthetic is case.synthetic
    for frame in frames:
        assert frame.image.shape == (240, 320, 3)
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.writeable
    for earlier, later in itertools.pairwise(frames):
        assert later.sequence > earlier.sequence >= 0
        assert later.captured_ns > earlier.captured_ns
        assert not np.shares_memory(later.image, earlier.image)
        assert not np.array_equal(later.image, earlier.image)
        if case.numbered:
            assert cameras.number_in(later.image) > cameras.number_in(earlier.image)
    assert frames[-1].captured_ns <= time.monotonic_ns()


@each_camera
def test_a_frame_is_given_only_when_it_is_new(case: Case) -> None:
    with case.camera() as camera:
        camera.read(10.0)
        with pytest.raises(CameraError, match="within 0 s") as error:  # noqa: PT012
            for _ in range(200):
                camera.read(0.0)
        assert error.value.code == "timeout"


@each_camera
def test_leaving_frees_the_threads_and_ends_reading(case: Case) -> None:
    before = set(threading.enumerate())
    camera = case.camera()
    with pytest.raises(CameraError) as early:
        camera.read(0.1)
    with camera:
        camera.read(10.0)
    assert early.value.code == "closed"
    assert set(threading.enumerate()) <= before
    with pytest.raises(CameraError) as late:
        camera.read(0.1)
    assert late.value.code == "closed"


@params(*THREADED)
def test_a_reader_that_pauses_gets_a_fresh_frame(case: Case) -> None:
    with case.camera() as camera:
        for _ in range(15):
            first = camera.read(10.0)
        begun = time.monotonic()
        time.sleep(2.0)
        frame = camera.read(10.0)
        elapsed_s = time.monotonic() - begun
        assert time.monotonic_ns() - frame.captured_ns < 0.5e9
    shown = cameras.number_in(frame.image) - cameras.number_in(first.image)
    assert elapsed_s * FPS - shown < 0.5 * FPS


@params(*THREADED)
def test_the_pace_is_the_sources_own(case: Case) -> None:
    with case.camera() as camera:
        first = camera.read(10.0)
        for _ in range(10):
            camera.read(10.0)  # past what a server may send at once when a client arrives
        begun = camera.read(10.0)
        for _ in range(30):
            last = camera.read(10.0)
    fps = 30 / ((last.captured_ns - begun.captured_ns) / 1e9)
    assert FPS * 0.7 < fps < FPS * 1.2
    assert first.sequence < begun.sequence


@params(*SERVED)
def test_a_killed_server_is_waited_for(case: Case) -> None:
    assert case.server is not None
    with case.camera() as camera:
        before = camera.read(10.0)
        case.server.kill()
        error, _ = until_timeout(camera)
        assert camera.lost == 0
        case.server.start()
        after = camera.read(20.0)
        assert camera.lost == 1
        camera.read(10.0)
        assert camera.lost == 1
    assert error.code == "timeout"
    assert "ago" in error.message
    assert after.sequence > before.sequence


@params(*SERVED)
def test_a_hung_server_never_blocks_the_reader(case: Case) -> None:
    assert case.server is not None
    with case.camera() as camera:
        camera.read(10.0)
        case.server.signal(signal.SIGSTOP)
        error, took_s = until_timeout(camera)
        case.server.signal(signal.SIGCONT)
        assert error.code == "timeout"
        assert took_s < 1.3
        frame = camera.read(20.0)
        assert time.monotonic_ns() - frame.captured_ns < 0.5e9


@params(*SERVED)
def test_a_server_that_hangs_for_long_is_left_and_met_again(case: Case) -> None:
    assert case.server is not None
    with case.camera() as camera:
        camera.read(10.0)
        case.server.signal(signal.SIGSTOP)
        time.sleep(5.0)
        case.server.signal(signal.SIGCONT)
        for _ in range(5):
            camera.read(20.0)
        assert camera.lost >= 1


def until_timeout(camera: Camera) -> tuple[CameraError, float]:
    """Read the frames still under way; return the error that follows and how long it took."""
    for _ in range(100):
        begun = time.monotonic()
        try:
            camera.read(1.0)
        except CameraError as e:
            return e, time.monotonic() - begun
    raise AssertionError("frames keep coming from a server that was stopped")


def test_every_camera_of_the_table_is_tried_here() -> None:
    tried = {ImagesCamera, ProfileCamera, SyntheticCamera, OpencvCamera, GstreamerCamera}
    found = {kind.adapter.partition(":")[::2] for kind in CAMERAS.values()}
    assert {
        getattr(import_module(f"agent.adapters.cameras.{module}"), name) for module, name in found
    } == tried


def test_a_frame_is_as_the_port_specifies() -> None:
    with SyntheticCamera("synthetic://", width=32, height=16, fps=1000.0) as camera:
        assert isinstance(camera.read(1.0), Frame)
