import sys
from pathlib import Path

import pytest

from agent.adapters.cameras.gstreamer import GstreamerCamera, pipeline
from agent.core.errors import CameraError
from tests.support import cameras

gi_warning = pytest.mark.filterwarnings("ignore:DynamicImporter:ImportWarning")


def test_size_and_rate_are_pinned_at_the_source() -> None:
    csi = pipeline("csi://1", 1280, 720, 29.97)
    assert csi.startswith("nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1280")
    assert "framerate=2997/100" in csi
    usb = pipeline("v4l2:///dev/v4l/by-id/usb-046d_HD-video-index0", 640, 480, 15)
    assert 'caps="video/x-raw,width=640,height=480,framerate=15/1;image/jpeg,width=640' in usb


@pytest.mark.parametrize(
    "uri",
    [
        "csi://0 ! filesink location=/tmp/x",
        "csi://",
        "csi://x",
        "v4l2:///dev/video0 ! filesink location=/tmp/x",
        "v4l2:///dev/video0%20!%20fakesink",
        "v4l2:///etc/passwd",
        "rtsp://cam/1",
    ],
)
def test_a_uri_adds_no_elements_to_the_pipeline(uri: str) -> None:
    with pytest.raises(CameraError, match="is not a camera that GStreamer is used for"):
        pipeline(uri, 640, 480, 15)


def test_without_pygobject_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gi", None)
    with pytest.raises(CameraError) as error:
        GstreamerCamera("csi://0", width=640, height=480, fps=15)
    assert error.value.code == "missing_part"
    assert "python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good" in error.value.hint


@pytest.mark.slow
@gi_warning
@pytest.mark.parametrize("width", [320, 331])
def test_rows_that_gstreamer_pads_are_cut(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras.require_gstreamer(tmp_path, monkeypatch)
    with GstreamerCamera(
        "test://",
        width=width,
        height=240,
        fps=30,
        describe=lambda _, w, h, fps: (
            "videotestsrc is-live=true pattern=solid-color foreground-color=0xff112233"
            f" ! video/x-raw,format=BGR,width={w},height={h},framerate={fps}/1"
        ),
    ) as camera:
        image = camera.read(10.0).image
    assert image.shape == (240, width, 3)
    assert (image == (0x33, 0x22, 0x11)).all()


@pytest.mark.slow
@gi_warning
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("noelement", "can't make the pipeline"),
        ("v4l2src device=/dev/video99", "Cannot identify device"),
        ("videotestsrc num-buffers=0", "the stream ended"),
    ],
)
def test_what_the_bus_states_is_reported_at_once(
    source: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras.require_gstreamer(tmp_path, monkeypatch)
    camera = GstreamerCamera("test://", width=64, height=48, fps=30, describe=lambda *_: source)
    with camera, pytest.raises(CameraError, match=words):
        camera.read(10.0)


@pytest.mark.slow
@gi_warning
def test_a_stream_that_ends_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras.require_gstreamer(tmp_path, monkeypatch)
    source = "videotestsrc num-buffers=5 is-live=true ! video/x-raw,format=BGR,width=64,height=48"
    with GstreamerCamera(
        "test://", width=64, height=48, fps=30, describe=lambda *_: source
    ) as camera:
        while camera.lost < 2:
            camera.read(10.0)
