"""The demo: start broker, camera and daemon, send the operator's command, show the result."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.core.errors import JobError, QuantdError
from agent.demo.application import Application
from agent.demo.broker import running, start_broker
from agent.demo.material import car_video, face_detector
from agent.demo.operator import Operator, trusted_key
from agent.terminal import ProgressBars, next_steps, show, summary

DEVICE = "demo-device"
_CONFIG = """\
# Written by `quantd demo`, for its own model. For yours: `quantd optimize MODEL --camera URI`
[device]
id = "{device}"

[camera]
uri = "{camera}"
width = 640
height = 480

[model]
name = "centerface"
path = "{model}"

[model.input]
width = 640
height = 480
color = "RGB"
pixels = "0..255"

[model.task]
kind = "detection"

[model.task.decode]
kind = "centers"
scores = "537"
sizes = "538"
offsets = "539"
middle = true
size = "log"
order = "yx"
threshold = 0.2
overlap = 0.3

[calibration]
frames = 32
holdout = 16
window_s = {window_s}

[measure]
warmup_s = 1
duration_s = {duration_s}
rounds = 5
idle_s = 1

[limits]
agreement = {agreement}

[mqtt]
host = "{host}"
port = {port}
root = "quantd"

[commands]
keys_dir = "{keys}"

[storage]
dir = "{state}"
"""


def demo(
    directory: Path, *, window_s: float, duration_s: float, agreement: float
) -> dict[str, Any]:
    """Run a whole optimization with real parts and return its report.

    Args:
        directory: Folder for all files; kept.
        window_s: Seconds of live camera to calibrate from.
        duration_s: Seconds of measuring per candidate.
        agreement: The fidelity limit: average precision of the faces against those of FP32, 0 to 1.
    """
    directory.mkdir(parents=True, exist_ok=True)
    module = sys.executable, "-m"
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(start_broker(directory / "broker"))
        show(f"broker   {broker.kind} on {broker.host}:{broker.port}")
        video, log = directory / "camera.mp4", directory / "camera.log"
        shutil.copyfile(car_video(), video)
        model = directory / "faces.onnx"
        shutil.copyfile(face_detector(), model)
        server = stack.enter_context(
            running(
                log, *module, "agent.demo.camera_server", str(video), "0", "640x480", piped=True
            )
        )
        line = server.stdout.readline().decode() if server.stdout else ""
        if not line.startswith("READY "):
            raise JobError("the demo's camera did not start", hint=f"see {log}")
        camera = line.split()[1]
        show(f"camera   {camera}, live from {video.name}")
        # not below `directory`: keys count only where no other user can write the folders above
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quantd-demo-")))
        keys = home / "keys"
        key = trusted_key(keys)
        config = directory / "quantd.toml"
        config.write_text(
            _CONFIG.format(
                device=DEVICE,
                camera=camera,
                model=model,
                window_s=window_s,
                duration_s=duration_s,
                agreement=agreement,
                host=broker.host,
                port=broker.port,
                keys=keys,
                state=directory / "state",
            )
        )
        daemon = stack.enter_context(
            # as a person would name it: the report gives it as the origin of values
            running(
                directory / "daemon.log", *module, "agent", "run", "-c", os.path.relpath(config)
            )
        )
        show(f"daemon   pid {daemon.pid}, log {directory / 'daemon.log'}")
        current = directory / "state" / "current"
        application = stack.enter_context(
            Application(directory / "application.log", current, camera)
        )
        if not current.exists():  # else it would take the processor from what is measured
            application.start()
        topic = f"quantd/v1/{DEVICE}"
        operator = stack.enter_context(Operator(broker.host, broker.port, topic, key))

        def alive() -> None:
            if daemon.poll() is not None:
                raise JobError(
                    f"the daemon ended with {daemon.returncode}",
                    hint=f"see {directory / 'daemon.log'}",
                )

        operator.wait_online(30, alive)
        command = operator.command("reoptimize", {})
        show(f"operator {DEVICE} is online; sent reoptimize to {topic}/cmd/{command}")
        with ProgressBars() as bars:
            result = _follow(operator, command, bars, alive, activating=application.start)
        report = _report_of(result, directory)
        active = report["activation"]["release"]
        served = application.until_served(active) if active else []
    summary(report, directory=directory, release=current)
    for line in served:
        show(f"application {line}")
    next_steps(config, video)
    return report


def _report_of(result: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Return the report of the command's run, and copy it to the demo's folder.

    Raises:
        QuantdError: if there is none.
    """
    if result.get("stage") != "SUCCEEDED" and not result.get("result_ref"):
        reason = result.get("reason") or {}
        raise QuantdError(
            f"the device answered {result.get('stage')}: {reason.get('detail', '')}",
            code=str(reason.get("code") or "failed"),
            hint=f"see {directory / 'daemon.log'}",
        )
    folder = Path(result["result_ref"])
    report: dict[str, Any] = json.loads((folder / "report.json").read_bytes())
    for path in folder.glob("report.*"):
        (directory / path.name).write_bytes(path.read_bytes())
    return report


def _follow(
    operator: Operator,
    command: str,
    bars: ProgressBars,
    alive: Callable[[], None],
    activating: Callable[[], None],
) -> dict[str, Any]:
    """Show the stages that the device reports; return its last answer.

    Args:
        operator: Receives them.
        command: Its id.
        bars: Show them.
        alive: Raises if the device has ended.
        activating: Called when measuring is over.
    """
    last: dict[str, Any] = {}
    for kind, message in operator.follow(command, 3600, alive):
        if kind != f"res/{command}":
            continue
        last = message
        progress = message.get("progress") or {}
        if progress.get("step") == "activate":
            activating()
        if progress.get("step"):
            percent = progress.get("pct")
            note = (message.get("reason") or {}).get("detail") or ""
            bars.update(
                progress["step"], int(percent or 0), 100 if percent is not None else 0, note
            )
    return last
