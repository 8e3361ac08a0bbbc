"""The demo as a whole with a small network: what it activates is what its application serves."""

from __future__ import annotations

import re

import pytest

from agent.demo import show
from agent.demo.application import Application
from agent.demo.camera_server import CameraServer
from agent.demo.material import car_video
from tests.support.scene import quantd, write_model

SMALL = """\
[device]
id = "{device}"
[camera]
uri = "{camera}"
[model]
name = "small"
path = "{model}"
[model.input]
scale = 0.00392156862745098
[model.task]
kind = "segmentation"
names = ["NAME"]
[calibration]
frames = 3
holdout = 3
window_s = {window_s}
[search]
precisions = ["fp32"]
[measure]
warmup_s = 0.1
duration_s = {duration_s}
rounds = 3
idle_s = 0
[limits]
agreement = {agreement}
[mqtt]
host = "{host}"
port = {port}
[commands]
keys_dir = "{keys}"
[storage]
dir = "{state}"
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_its_application_serves_what_is_activated_and_follows_a_rollback(
    tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "demo"
    model = write_model(tmp_path / "small.onnx")
    monkeypatch.setattr(show, "face_detector", lambda: model)
    releases = []
    for name in ("road", "path"):  # an application sees another model
        monkeypatch.setattr(show, "_CONFIG", SMALL.replace("NAME", name))
        report = show.demo(folder, window_s=4, duration_s=0.3, agreement=0)
        releases.append(report["activation"]["release"])
        printed = capsys.readouterr().err
        assert re.search(
            rf"^application (serving|switched to) release {releases[-1]}", printed, re.MULTILINE
        )
        served = re.search(rf"^application release {releases[-1]}: (\S+) frames/s", printed, re.M)
        assert served is not None, printed
        log = (folder / "application.log").read_text()
        assert log.startswith("waiting for a release") or len(releases) > 1
        assert float(served[1]) > 0
    first, second = releases
    with CameraServer(str(car_video())) as camera:
        log = tmp_path / "application.log"
        with Application(log, folder / "state" / "current", camera.url) as application:
            application.start()
            application.wait(second)
            assert quantd("rollback", "-c", folder / "quantd.toml").returncode == 0
            assert application.until_served(first)[0] == (
                f"switched to release {first} from {second}"
            )
