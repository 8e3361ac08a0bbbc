"""The daemon while a child of its builds with TensorRT and is killed, or stands still."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.broker import any_broker
from tests.support.engine_builds import CAPABILITY, require_tensorrt
from tests.support.fleet import Console, DaemonProcess
from tests.support.scene import write_config

pytestmark = pytest.mark.slow
DEVICE = "cam-1"


@pytest.fixture
def config(tmp_path: Path) -> Iterator[tuple[Path, Console]]:
    require_tensorrt()
    with any_broker(tmp_path) as broker:
        file = write_config(
            tmp_path,
            mqtt={"host": broker.host, "port": broker.port},
            commands={"require_signature": False},
            search={"precisions": ["fp32", "int8"], "calibrators": ["minmax"]},
            runtime={"kind": "tensorrt", "compute_capability": CAPABILITY},
        )
        with Console(broker.host, broker.port, DEVICE) as console:
            yield file, console


def building(daemon: DaemonProcess, timeout_s: float = 60) -> psutil.Process:
    """Return the daemon's child that has TensorRT loaded to build."""
    assert daemon.process is not None
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for child in psutil.Process(daemon.process.pid).children():
            try:
                spec = json.loads(Path(child.cmdline()[4]).read_bytes())
                loaded = "libtensorrt" in Path("/proc", str(child.pid), "maps").read_text()
            except (OSError, IndexError, ValueError, psutil.Error):
                continue
            if spec["kind"] == "build" and loaded:
                return child
        time.sleep(0.005)
    raise AssertionError("nothing was built")


@pytest.mark.faults
def test_a_killed_build_is_reported_and_the_daemon_continues(config: tuple[Path, Console]) -> None:
    file, console = config
    with DaemonProcess(file) as daemon:
        console.wait("state", lambda m: m["status"] == "online")
        console.command("c1", {"type": "reoptimize"})
        building(daemon).kill()
        console.result("c1")
        report = console.wait("report/small", lambda _: True)["report"]
        reasons = {c["id"]: " ".join(c["reasons"]) for c in report["candidates"]}
        assert "build: killed by SIGKILL" in reasons["fp32"]
        assert "lower runtime.workspace_mb" in reasons["fp32"]
        assert "cross-built" in reasons["int8-minmax"]  # which was built all the same
        assert report["activation"]["state"] != "active"
        console.command("p1", {"type": "ping"})
        assert console.result("p1")["stage"] == "SUCCEEDED"
        assert daemon.stop() == 0


def test_a_build_that_hangs_blocks_nothing_and_can_be_cancelled(
    config: tuple[Path, Console],
) -> None:
    file, console = config
    with DaemonProcess(file) as daemon:
        console.wait("state", lambda m: m["status"] == "online")
        console.command("c1", {"type": "reoptimize"})
        child = building(daemon)
        child.send_signal(signal.SIGSTOP)
        console.command("p1", {"type": "ping"})
        assert console.result("p1", 5)["stage"] == "SUCCEEDED"
        console.command("k1", {"type": "cancel", "args": {"target": "c1"}})
        assert console.result("c1", 10)["stage"] == "CANCELED"
        assert not child.is_running()
        assert daemon.stop() == 0
    assert not list((file.parent / "state" / "artifacts").glob(".work-*"))
