"""The daemon on a real broker: commands, reports, and what a kill -9 may not lose."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.broker import Broker, any_broker
from tests.support.fleet import Console, DaemonProcess
from tests.support.polling import until
from tests.support.scene import quantd, write_config

pytestmark = pytest.mark.slow
DEVICE = "cam-1"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with any_broker(tmp_path) as found:
        yield found


@pytest.fixture
def console(broker: Broker) -> Iterator[Console]:
    with Console(broker.host, broker.port, DEVICE) as found:
        yield found


def configured(tmp_path: Path, broker: Broker, **tables: dict[str, Any]) -> Path:
    tables.setdefault("search", {"precisions": ["fp32"]})
    return write_config(
        tmp_path,
        mqtt={"host": broker.host, "port": broker.port},
        commands={"require_signature": False},
        **tables,
    )


def online(console: Console) -> None:
    console.wait("state", lambda m: m["status"] == "online")


def test_reoptimize_from_acceptance_to_report(
    tmp_path: Path, broker: Broker, console: Console
) -> None:
    with DaemonProcess(configured(tmp_path, broker)) as daemon:
        online(console)
        console.command("c1", {"v": 1, "id": "c1", "type": "reoptimize", "dev": DEVICE})
        result = console.result("c1")
        assert result["stage"] == "SUCCEEDED", result
        stages = console.stages("c1")
        assert stages == ["ACCEPTED", "IN_PROGRESS", "SUCCEEDED"]
        report = console.wait("report/small", lambda _: True)
        assert report["report"]["schema"] == 1
        assert report["report"]["activation"]["state"] == "active"
        state = console.wait("state", lambda m: (m["active"] or {}).get("model") == "small")
        assert state["active"]["release"] == report["report"]["run_id"]
        state = console.wait("state", lambda m: (m["active"] or {}).get("measured"))
        assert (state["active"]["precision"], state["active"]["candidate"]) == ("fp32", "fp32")
        assert state["active"]["measured"] == report["report"]["finished"]
        releases = console.wait("releases", lambda m: m["active"] == report["report"]["run_id"])
        (only,) = releases["releases"]
        assert (only["id"], only["good"], only["pinned"]) == (releases["active"], True, False)
        meta = console.wait("meta", lambda _: True)
        assert "reoptimize" in meta["commands"]
        console.wait("telemetry", lambda m: m["m"]["rss_mb"] > 0)
        # the same command again is answered from memory, not run again
        runs = len(list((tmp_path / "state" / "runs").iterdir()))
        console.command("c1", {"v": 1, "id": "c1", "type": "reoptimize", "dev": DEVICE})
        time.sleep(1.5)
        assert len(list((tmp_path / "state" / "runs").iterdir())) == runs
        assert daemon.stop() == 0
        console.wait("state", lambda m: m["status"] == "shutdown")


def test_ping_cancel_and_refusals(tmp_path: Path, broker: Broker, console: Console) -> None:
    config = configured(tmp_path, broker, calibration={"window_s": 60.0})
    with DaemonProcess(config):
        online(console)
        console.command("p1", {"type": "ping"})
        assert console.result("p1")["stage"] == "SUCCEEDED"
        console.command("bad", b"\xff not json")
        assert console.result("bad")["reason"]["code"] == "bad_json"
        console.command("deep", b'{"type": "ping", "args": ' + b"[" * 10_000)
        assert console.result("deep")["stage"] == "REJECTED"
        console.command("huge", b'{"type": "' + b"x" * 70_000 + b'"}')
        assert console.result("huge")["reason"]["code"] == "too_large"
        console.command("old", {"type": "ping", "exp": 1_000_000_000})
        assert console.result("old")["reason"]["code"] == "expired"
        console.command("other", {"type": "ping", "dev": "cam-2"})
        assert console.result("other")["reason"]["code"] == "wrong_device"
        console.command("r1", {"type": "reoptimize"})
        console.wait("res/r1", lambda m: (m["progress"] or {}).get("step") == "capture")
        console.command("k1", {"type": "cancel", "args": {"target": "r1"}})
        assert console.result("r1", 20)["stage"] == "CANCELED"
        assert console.result("k1")["stage"] == "SUCCEEDED"
        assert not list((tmp_path / "state" / "artifacts").glob(".work-*"))


def test_retained_commands_are_refused_live_and_after_an_absence(
    tmp_path: Path, broker: Broker, console: Console
) -> None:
    config = configured(tmp_path, broker)
    with DaemonProcess(config) as daemon:
        online(console)
        console.command("live", {"type": "reoptimize"}, retain=True)
        assert console.result("live")["reason"]["code"] == "retained"
        assert daemon.stop() == 0
        console.command("away", {"type": "reoptimize"}, retain=True)
        daemon.start()
        assert console.result("away")["reason"]["code"] == "retained"
        console.command("p1", {"type": "ping"})
        assert console.result("p1")["stage"] == "SUCCEEDED"
        assert console.stages("live") == console.stages("away") == ["REJECTED"]
    assert not (tmp_path / "state" / "runs").exists()


def test_a_command_is_carried_out_only_on_the_release_that_it_expects(
    tmp_path: Path, broker: Broker, console: Console
) -> None:
    with DaemonProcess(configured(tmp_path, broker, calibration={"window_s": 4.0})):
        online(console)
        console.command("c1", {"type": "reoptimize", "expect": {"release": "r1"}})
        assert console.result("c1")["reason"] == {
            "code": "stale_precondition",
            "detail": "no release is active, the command expects r1",
        }
        nothing = {"expect": {"release": None}}
        console.command("c2", {"type": "reoptimize", **nothing})
        console.wait("res/c2", lambda m: m["stage"] == "IN_PROGRESS")
        console.command("c3", {"type": "reoptimize", **nothing})  # true now, not when it begins
        console.command("c4", {"type": "cancel", "expect": {"release": "r1"}})
        assert console.result("c4")["reason"]["code"] == "stale_precondition"
        assert console.result("c2")["stage"] == "SUCCEEDED"
        failed = console.result("c3")
        assert (failed["stage"], failed["reason"]["code"]) == ("FAILED", "stale_precondition")
        assert console.stages("c3") == ["ACCEPTED", "QUEUED", "IN_PROGRESS", "FAILED"]
    assert len(list((tmp_path / "state" / "runs").iterdir())) == 1


def test_a_run_killed_at_its_last_attempt_after_it_activated_has_succeeded(
    tmp_path: Path, broker: Broker, console: Console
) -> None:
    config = configured(tmp_path, broker, calibration={"window_s": 4.0})
    with DaemonProcess(config) as daemon:
        online(console)
        console.command("c1", {"type": "reoptimize"})
        for attempt in (1, 2, 3):
            console.wait(
                "event",
                lambda m, n=attempt: m["kind"] == "optimize_started" and m["facts"]["attempt"] == n,
            )
            if attempt < 3:
                daemon.kill()
                daemon.start()
        until((tmp_path / "state" / "current").is_symlink)
        daemon.kill()
        daemon.start()
        assert console.result("c1")["stage"] == "SUCCEEDED"
        report = console.wait("report/small", lambda _: True)["report"]
        assert report["run_id"] == (tmp_path / "state" / "current").readlink().name
        assert report["activation"]["state"] == "active"
        assert console.stages("c1").count("SUCCEEDED") == 1


@pytest.mark.faults
def test_clean_restarts_do_not_fail_a_command(
    tmp_path: Path, broker: Broker, console: Console
) -> None:
    config = configured(tmp_path, broker, calibration={"window_s": 4.0})
    with DaemonProcess(config) as daemon:
        online(console)
        console.command("c1", {"type": "reoptimize"})
        for number in range(1, 5):
            daemon_stopped_in_capture(daemon, console, number)
            daemon.start()
        assert console.result("c1")["stage"] == "SUCCEEDED"


def daemon_stopped_in_capture(daemon: DaemonProcess, console: Console, number: int) -> None:
    def begun() -> int:
        events = [message for kind, message, _ in console.heard if kind == "event"]
        begun = [message for message in events if message["kind"] == "optimize_started"]
        return len({message["id"] for message in begun})  # one may come twice

    until(lambda: begun() >= number)
    assert daemon.stop() == 0


def test_unsigned_commands_are_refused_by_default(
    tmp_path: Path, broker: Broker, console: Console
) -> None:
    config = write_config(tmp_path, mqtt={"host": broker.host, "port": broker.port})
    with DaemonProcess(config):
        online(console)
        console.command("c1", {"type": "reoptimize"})
        assert console.result("c1")["reason"]["code"] == "bad_signature"


@pytest.mark.parametrize(
    "stage",
    [
        "activate",
        *(
            pytest.param(stage, marks=pytest.mark.faults)
            for stage in (
                "capture",
                "condition",
                "statistics",
                "quantize",
                "build",
                "evaluate",
                "measure",
                "report",
            )
        ),
    ],
)
def test_a_killed_daemon_finishes_the_run_after_its_restart(
    tmp_path: Path, broker: Broker, console: Console, stage: str
) -> None:
    search = {"precisions": ["fp32", "int8"], "calibrators": ["minmax"]}
    config = configured(tmp_path, broker, search=search, measure={"duration_s": 1.0})
    with DaemonProcess(config) as daemon:
        online(console)
        console.command("c1", {"type": "reoptimize"})
        console.wait("res/c1", lambda m: (m["progress"] or {}).get("step") == stage)
        daemon.kill()
        until(lambda: not _jobs(tmp_path), 10, lambda: "a job outlived its daemon")
        daemon.start()
        assert console.result("c1")["stage"] == "SUCCEEDED"
        report = console.wait("report/small", lambda _: True)
        runs = list((tmp_path / "state" / "runs").iterdir())
        assert [run.name for run in runs] == [report["report"]["run_id"]]
        assert daemon.stop() == 0
    report = report["report"]
    assert report["activation"]["state"] == "active"
    assert (tmp_path / "state" / "current").readlink().name == report["run_id"]
    assert not list((tmp_path / "state" / "artifacts").glob(".work-*"))
    order = ("capture", "condition", "statistics", "build", "evaluate", "measure", "activate")
    if stage in order[1:]:  # made before the kill, so not made again
        assert not report["timings_s"].keys() & {*order[: order.index(stage)]}


def test_reports_wait_for_a_broker_that_is_away(
    tmp_path: Path, broker: Broker, console: Console
) -> None:
    with DaemonProcess(configured(tmp_path, broker)) as daemon:
        online(console)
        console.command("c1", {"type": "reoptimize"})
        console.wait("res/c1", lambda m: m["stage"] == "IN_PROGRESS")
        broker.kill()
        until(lambda: list((tmp_path / "state" / "runs").glob("*/report.html")))
        daemon.kill()
        broker.start()
        daemon.start()
        with Console(broker.host, broker.port, DEVICE) as later:
            assert later.wait("report/small", lambda _: True)["report"]["schema"] == 1


def test_a_broken_model_fails_the_command_and_keeps_the_release(
    tmp_path: Path, broker: Broker, console: Console
) -> None:
    config = configured(tmp_path, broker)
    assert quantd("optimize", "-c", config, "--json").returncode == 0
    before = (tmp_path / "state" / "current").readlink()
    (tmp_path / "small.onnx").write_bytes(b"not a model at all")
    with DaemonProcess(config):
        online(console)
        console.command("c1", {"type": "reoptimize"})
        result = console.result("c1")
        assert result["stage"] == "FAILED"
        assert "not an ONNX model" in result["reason"]["detail"]
    assert (tmp_path / "state" / "current").readlink() == before


def test_limits_of_a_command_and_infeasible(
    tmp_path: Path, broker: Broker, console: Console
) -> None:
    with DaemonProcess(configured(tmp_path, broker)):
        online(console)
        limits = {"latency_p99_ms": 0.0001}
        console.command("c1", {"type": "reoptimize", "args": {"limits": limits}})
        result = console.result("c1")
        assert (result["stage"], result["reason"]["code"]) == ("FAILED", "infeasible")
        assert json.loads(Path(result["result_ref"], "report.json").read_bytes())["choice"][
            "infeasible"
        ]


def test_no_broker_at_the_start_is_no_reason_to_end(tmp_path: Path) -> None:
    config = write_config(
        tmp_path, mqtt={"host": "127.0.0.1", "port": 9}, commands={"require_signature": False}
    )
    with DaemonProcess(config) as daemon:
        daemon.until_logged("broker_lost")
        assert daemon.stop() == 0


def test_a_tls_file_that_is_missing_at_the_start_is_waited_for(tmp_path: Path) -> None:
    """Schedule and repair need no broker; the line is written once, not at each attempt."""
    mqtt = {"host": "127.0.0.1", "port": 1, "tls.ca": str(tmp_path / "ca.pem")}
    config = write_config(tmp_path, mqtt=mqtt)
    with DaemonProcess(config) as daemon:
        daemon.until_logged("credentials_unusable")
        assert daemon.stop() == 0
    assert daemon.log.read_text().count("broker_lost") == 1


def test_the_idle_daemon_loads_no_heavy_library(
    tmp_path: Path, broker: Broker, console: Console
) -> None:
    with DaemonProcess(configured(tmp_path, broker)) as daemon:
        online(console)
        assert daemon.process is not None
        mapped = Path(f"/proc/{daemon.process.pid}/maps").read_text()
        for library in ("numpy", "onnxruntime", "cv2", "onnx", "tensorrt"):
            assert f"/{library}/" not in mapped
        rss_mb = psutil.Process(daemon.process.pid).memory_info().rss / 1e6
        assert rss_mb < 40, f"{rss_mb:.1f} MB resident"


def _jobs(folder: Path) -> list[int]:
    """Return the jobs still running on this test's state."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if line[1:4] == ["-m", "agent", "job"] and Path(line[4]).exists():
            text = Path(line[4]).read_text()
            if str(folder) in text:
                found.append(process.pid)
    return found
