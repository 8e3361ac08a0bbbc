"""After an upgrade of the runtime, or with a damaged engine, the daemon repairs the active release."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from tests.support.broker import Broker, any_broker
from tests.support.fleet import Console, DaemonProcess
from tests.support.scene import quantd, write_config, write_pictures

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


SEARCH = {"precisions": ["fp32", "int8"], "calibrators": ["minmax"]}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a device with an active release, to be copied."""
    folder = tmp_path_factory.mktemp("released")
    done = quantd("optimize", "-c", write_config(folder, search=SEARCH), "--json")
    assert done.returncode == 0, done.stderr
    return folder / "state"


@pytest.fixture
def config(tmp_path: Path, broker: Broker, released: Path) -> Path:
    """A device with an active release, and a camera that has disappeared since."""
    path = write_config(
        tmp_path,
        mqtt={"host": broker.host, "port": broker.port},
        commands={"require_signature": False},
        search=SEARCH,
    )
    shutil.copytree(released, tmp_path / "state", symlinks=True)
    shutil.rmtree(tmp_path / "pictures")
    return path


def change(release: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    file = release / "model.json"
    facts = json.loads(file.read_bytes())
    edit(facts)
    file.write_text(json.dumps(facts))


def made_by(version: str) -> Callable[[dict[str, Any]], None]:
    """The release as that version of the runtime would have left it."""

    def edit(facts: dict[str, Any]) -> None:
        facts["runtime"]["version"] = version
        facts["identity"] = f"of {version}"

    return edit


def current(config: Path) -> Path:
    return (config.parent / "state" / "current").resolve()


def ended(console: Console, run_id: str) -> dict[str, Any]:
    return console.wait("event", lambda m: m["facts"].get("run_id") == run_id and
                        m["kind"].endswith("_ended"), 120)  # fmt: skip


def mended(console: Console, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the event about the release, and the report of the run that followed."""
    event = console.wait("event", lambda m: m["kind"] == kind)
    report = console.wait("report/small", lambda _: True, 120)["report"]
    ended(console, report["run_id"])
    return event, report


def test_after_an_upgrade_the_engine_is_built_again_without_a_camera(
    config: Path, console: Console
) -> None:
    before = current(config)
    frames = json.loads((before / "model.json").read_bytes())["lineage"]["calibration"]
    change(before, made_by("1.0.0"))
    with DaemonProcess(config) as daemon:
        event, report = mended(console, "release_outdated")
        assert (event["severity"], event["facts"]["loads"]) == ("warning", True)
        assert event["facts"]["changes"] == [
            f"runtime version 1.0.0, now {onnxruntime.__version__}"
        ]
        assert report["trigger"] == "upgrade"
        assert report["activation"]["state"] == "active"
        assert report["calibration"]["reused"] is True
        assert report["calibration"]["digest"] == frames
        assert not report["timings_s"].keys() & {"capture", "statistics", "quantize"}
        assert current(config).name == report["run_id"] != before.name
        daemon.stop()
        log = daemon.log.stat().st_size
        daemon.start()
        deadline = time.monotonic() + 30
        while b"release_fits" not in daemon.log.read_bytes()[log:]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert b"release_outdated" not in daemon.log.read_bytes()[log:]
        assert len(list((config.parent / "state" / "runs").iterdir())) == 2


def test_an_upgrade_that_can_not_be_rebuilt_is_given_up(config: Path, console: Console) -> None:
    before = current(config)
    change(before, made_by("1.0.0"))
    (config.parent / "small.onnx").unlink()
    plans = []
    with DaemonProcess(config) as daemon:
        for start in range(1, 5):
            found = console.wait(
                "event",
                lambda m, start=start: (
                    m["kind"] == "release_outdated" and (m["facts"]["attempt"] == start)
                ),
            )
            plans.append(found["facts"]["plan"])
            if plans[-1] == "rebuild":
                console.wait(
                    "event", lambda m, start=start: m["kind"] == "optimize_ended"
                    and len([1 for k, e, _ in console.heard if k == "event"
                             and e["kind"] == "optimize_ended"]) >= start,
                )  # fmt: skip
            daemon.stop()
            daemon.start()
    assert plans == ["rebuild", "rebuild", "rebuild", "give_up"]
    assert current(config) == before


def test_a_damaged_engine_is_replaced(config: Path, console: Console) -> None:
    before = current(config)
    engine = before / "model.onnx"
    engine.write_bytes(engine.read_bytes()[:-1000])
    with DaemonProcess(config):
        event, report = mended(console, "release_unusable")
    assert event["severity"] == "error"
    assert "not the file that was measured" in event["facts"]["trouble"]
    assert report["trigger"] == "repair"
    assert report["activation"]["state"] == "active"
    assert current(config) != before


@pytest.mark.faults
def test_an_earlier_release_serves_while_a_damaged_one_is_built_again(
    config: Path, console: Console
) -> None:
    first = current(config)
    frames = json.loads((first / "model.json").read_bytes())["lineage"]["calibration"]
    write_pictures(config.parent / "pictures")
    text = config.read_text()
    config.write_text(text.replace(f"scale = {1 / 255}", "scale = 0.0078125"))
    assert quantd("optimize", "-c", config, "--json").returncode == 0
    second = current(config)
    assert second != first
    shutil.rmtree(config.parent / "pictures")
    shutil.rmtree(config.parent / "state" / "artifacts" / frames)  # the frames of the other one
    (second / "model.onnx").write_bytes(b"torn")
    with DaemonProcess(config):
        _, report = mended(console, "release_unusable")
        back = console.wait("event", lambda m: m["kind"] == "rollback_ended")
    assert first.name in back["facts"]["detail"]
    assert (report["trigger"], report["calibration"]["reused"]) == ("repair", True)
    assert report["activation"]["state"] == "active"
    assert report["activation"]["previous"] == first.name


@pytest.mark.faults
def test_frames_can_be_used_again_by_hand_and_on_command(config: Path, console: Console) -> None:
    done = quantd("optimize", "-c", config, "--json")
    assert done.returncode == 1
    assert "camera" in done.stderr.lower() or "images" in done.stderr
    again = quantd("optimize", "-c", config, "--json", "--reuse-calibration")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["calibration"]["reused"] is True
    shown = quantd("optimize", "-c", config, "--reuse-calibration")
    assert "of an earlier run, captured 20" in " ".join(shown.stderr.split())
    with DaemonProcess(config):
        console.wait("state", lambda m: m["status"] == "online")
        console.command("c1", {"type": "reoptimize", "args": {"reuse_calibration": True}})
        assert console.result("c1")["stage"] == "SUCCEEDED"


def test_without_a_release_there_is_nothing_to_use_again(tmp_path: Path) -> None:
    done = quantd("optimize", "-c", write_config(tmp_path), "--reuse-calibration", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "nothing_to_reuse"
