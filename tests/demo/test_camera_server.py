import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.core.errors import CameraError
from agent.demo.camera_server import CameraServer, main
from tests.support import cameras

pytestmark = pytest.mark.slow


def pictures(url: str, count: int) -> list[np.ndarray]:
    """Read JPEG parts by their stated lengths, as any HTTP client would."""
    read = []
    with urllib.request.urlopen(url, timeout=10) as stream:
        assert stream.headers["Content-Type"].startswith("multipart/x-mixed-replace")
        while len(read) < count:
            line = stream.readline()
            assert line
            if line.lower().startswith(b"content-length:"):
                stream.readline()
                jpeg = np.frombuffer(stream.read(int(line.split(b":")[1])), np.uint8)
                read.append(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))
    return read


def test_a_video_loops_for_several_clients(tmp_path: Path) -> None:
    video = cameras.write_video(tmp_path / "v.avi", frames=10, fps=50)
    with CameraServer(str(video)) as server:
        for _ in range(2):
            numbers = [cameras.number_in(image) for image in pictures(server.url, 15)]
            assert set(numbers) == set(range(10))
        with urllib.request.urlopen(server.url, timeout=10) as first:
            assert first.read(10)
            assert len(pictures(server.url, 3)) == 3
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(server.url + "x", timeout=10)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(server.url, timeout=10)


def test_a_real_video_is_scaled_up() -> None:
    with CameraServer(str(cameras.real_clip()), size=(640, 480)) as server:
        image = pictures(server.url, 1)[0]
    assert image.shape == (480, 640, 3)
    assert image.std() > 20


def test_the_command_prints_its_address_and_ends_on_sigterm(tmp_path: Path) -> None:
    video = cameras.write_video(tmp_path / "v.avi", frames=10, fps=50)
    command = [sys.executable, "-m", "agent.demo.camera_server", str(video), "0", "160x120"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        word, url = process.stdout.readline().split()
        assert word == "READY"
        assert pictures(url, 1)[0].shape == (120, 160, 3)
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.parametrize("arguments", [[], ["x"], ["x", "y"], ["x", "1", "0x0"], ["x"] * 4])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("usage:")


def test_what_can_not_be_served_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="can't be read as a video"):
        CameraServer(str(tmp_path / "absent.avi"))
    video = cameras.write_video(tmp_path / "v.avi", frames=2, fps=50)
    with CameraServer(str(video)) as server:
        port = int(server.url.split(":")[2].split("/")[0])
        with pytest.raises(CameraError, match=f"port {port} can't be used"):
            CameraServer(str(video), port)
