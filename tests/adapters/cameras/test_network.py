"""OpencvCamera against hostile, broken and guarded servers on loopback."""

import os
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from agent.adapters.cameras.opencv import OpencvCamera
from agent.adapters.cameras.reachability import seen_at
from agent.core.errors import CameraError
from tests.support import cameras

pytestmark = pytest.mark.slow
SECRET = "hunter2"


def camera_at(port: int, *, scheme: str = "http", fps: float = 15.0) -> OpencvCamera:
    uri = f"{scheme}://admin:{SECRET}@127.0.0.1:{port}/cam?token={SECRET}"
    return OpencvCamera(uri, width=320, height=240, fps=fps)


def refusal(camera: OpencvCamera) -> CameraError:
    begun = time.monotonic()
    with camera, pytest.raises(CameraError) as error:
        camera.read(12.0)
    assert time.monotonic() - begun < 17  # the answer within its time, leaving within its own
    assert SECRET not in str(error.value)
    assert SECRET not in camera.source
    assert "127.0.0.1" in error.value.message
    return error.value


def test_frames_are_fresh_by_the_clock_they_show() -> None:
    with cameras.raw_server(cameras.send_clock) as port, camera_at(port) as camera:
        camera.read(10.0)
        ages_ms = []
        for pause_s in (0.0, 2.0, 0.3):
            time.sleep(pause_s)
            ages_ms.append(-cameras.number_in(camera.read(5.0).image) + cameras.clock_ms())
    assert max(ages_ms) < 500


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_no_server_listens(scheme: str, capfd: pytest.CaptureFixture[str]) -> None:
    error = refusal(camera_at(cameras.free_port(), scheme=scheme))
    assert "connection refused" in error.message
    assert error.code == "unreachable"
    assert error.hint
    assert SECRET not in "".join(capfd.readouterr())


def garbage(connection: socket.socket) -> None:
    connection.recv(4096)
    while True:
        connection.sendall(os.urandom(4096))


def endless_header(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.0 200 OK\r\n")
    while True:
        connection.sendall(b"X-More: " + b"a" * 4000 + b"\r\n")


def endless_part_header(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(cameras.MJPEG_HEADER + b"--frame\r\n")
    while True:
        connection.sendall(b"X-More: " + b"a" * 100 + b"\r\n")


def garbage_parts(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(cameras.MJPEG_HEADER)
    while True:
        connection.sendall(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 500\r\n\r\n")
        connection.sendall(os.urandom(500) + b"\r\n")
        time.sleep(0.02)


def huge_length(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(cameras.MJPEG_HEADER)
    connection.sendall(
        b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 2000000000\r\n\r\n\xff\xd8"
    )
    time.sleep(4)


def silence(connection: socket.socket) -> None:
    time.sleep(6)


def not_found(connection: socket.socket) -> None:
    request = connection.recv(4096)
    protocol = b"RTSP" if b"RTSP/1.0" in request else b"HTTP"
    connection.sendall(protocol + b"/1.0 404 Not Found\r\nCSeq: 1\r\nContent-Length: 0\r\n\r\n")


def hang_up(connection: socket.socket) -> None:
    connection.recv(10)


@pytest.mark.parametrize(
    ("answer", "scheme", "words"),
    [
        (garbage, "http", "neither HTTP nor RTSP"),
        (garbage, "rtsp", "neither HTTP nor RTSP"),
        (endless_header, "http", "nothing that is video"),
        (endless_part_header, "http", ""),
        (garbage_parts, "http", ""),
        (huge_length, "http", ""),
        (silence, "http", "no answer from"),
        (silence, "rtsp", "no answer from"),
        (not_found, "http", "status 404"),
        (not_found, "rtsp", "status 404"),
        (hang_up, "http", ""),
        (hang_up, "rtsp", ""),
    ],
)
def test_a_hostile_server_gets_a_clear_error(answer, scheme: str, words: str) -> None:
    with cameras.raw_server(answer) as port:
        error = refusal(camera_at(port, scheme=scheme))
    assert words in error.message


def test_damaged_pictures_do_not_end_the_stream() -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(cameras.MJPEG_HEADER)
        for number in range(1000):
            keep = 0.3 if number % 5 == 2 else 1.0
            connection.sendall(cameras.jpeg_part(cameras.numbered(number), keep=keep))
            time.sleep(0.03)

    with cameras.raw_server(answer) as port, camera_at(port) as camera:
        frames = [camera.read(10.0) for _ in range(30)]
        assert camera.lost == 0
    assert frames[-1].sequence >= 29


def test_a_picture_cut_by_a_loss_is_not_delivered() -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(cameras.MJPEG_HEADER)
        for number in range(5):
            connection.sendall(cameras.jpeg_part(cameras.numbered(number)))
            time.sleep(0.03)
        part = cameras.jpeg_part(cameras.numbered(5))
        connection.sendall(part[: len(part) // 3])

    with cameras.raw_server(answer) as port, camera_at(port) as camera:
        numbers = []
        while camera.lost < 2:
            numbers.append(cameras.number_in(camera.read(10.0).image))
    assert set(numbers) <= {0, 1, 2, 3, 4}


def test_a_picture_too_large_for_the_memory_is_refused() -> None:
    part = cameras.jpeg_part(np.zeros((8100, 8100, 3), np.uint8))

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(cameras.MJPEG_HEADER)
        for _ in range(100):
            connection.sendall(part)
            time.sleep(0.03)

    with cameras.raw_server(answer) as port:
        assert "8100x8100 px, the limit is 64 MP" in refusal(camera_at(port)).message


def test_a_change_of_size_is_delivered_or_recovered_from() -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(cameras.MJPEG_HEADER)
        for number in range(1000):
            size = (640, 480) if number > 20 else (320, 240)
            connection.sendall(cameras.jpeg_part(cameras.numbered(number, *size)))
            time.sleep(0.03)

    with cameras.raw_server(answer) as port, camera_at(port) as camera:
        shapes = {camera.read(10.0).image.shape for _ in range(60)}
    assert shapes <= {(240, 320, 3), (480, 640, 3)}


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "mine;1")
    monkeypatch.delenv("OPENCV_FFMPEG_LOGLEVEL", raising=False)
    with cameras.raw_server(cameras.send_clock) as port, camera_at(port) as camera:
        camera.read(10.0)
    assert os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] == "mine;1"
    assert "OPENCV_FFMPEG_LOGLEVEL" not in os.environ


def test_a_guarded_rtsp_camera_opens_with_its_password_only(tmp_path: Path) -> None:
    video = cameras.write_video(tmp_path / "v.avi", frames=150, fps=15)
    with cameras.rtsp_server(video, "admin", SECRET) as server:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        with camera_at(port, scheme="rtsp") as camera:
            assert camera.read(10.0).image.shape == (240, 320, 3)
            assert camera.source == f"rtsp://***@127.0.0.1:{port}/cam?token=***"
        wrong = server.url.replace("://", "://admin:wrong@")
        error = refusal_text(wrong)
        assert "401" in error
        assert "wrong" not in error


def refusal_text(uri: str) -> str:
    camera = OpencvCamera(uri, width=320, height=240, fps=15.0)
    with camera, pytest.raises(CameraError) as error:
        camera.read(12.0)
    return str(error.value)


def test_an_unknown_name_and_a_broken_uri_are_reported() -> None:
    assert "not known" in seen_at("rtsp://nowhere.invalid/1", 2.0)[0]
    assert "not valid" in seen_at("rtsp://cam:99999/1", 2.0)[0]
    assert "not valid" in seen_at("http://[::1/1", 2.0)[0]
    for uri in ("http://a:12/3secret@cam/x", "http://a:p3secret/x@cam/x"):
        assert "3secret" not in "".join(seen_at(uri, 0.2))


def test_two_cameras_do_not_disturb_each_other() -> None:
    with (
        cameras.raw_server(cameras.send_clock) as one,
        cameras.raw_server(cameras.send_clock) as two,
        camera_at(one) as first,
        camera_at(two) as second,
    ):
        for _ in range(10):
            for camera in (first, second):
                frame = camera.read(10.0)
                assert cameras.clock_ms() - cameras.number_in(frame.image) < 500
    assert not [t for t in threading.enumerate() if t.name.startswith("camera ")]
