"""The doctor: each line ok, warning or problem, and how to fix it."""

from __future__ import annotations

import json
import re
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent import config as configuration
from agent.core.errors import CameraError, PowerError
from agent.doctor import CHECKS, Finding, broker, examine, needs
from agent.doctor.findings import Machine, ok
from tests.fakes import gpu as fakes


@pytest.fixture
def checked(tmp_path):
    """Return a function that checks at one thing under a configuration."""

    def check(what: str, **tables: dict[str, object]) -> Finding:
        tables = {"storage": {"dir": str(tmp_path / "state")}, **tables}
        lines = []
        for table, keys in tables.items():
            lines += [f"[{table}]", *(f"{key} = {json.dumps(v)}" for key, v in keys.items())]
        path = tmp_path / "quantd.toml"
        path.write_text("\n".join(lines))
        (finding,) = examine(configuration.load(path), {what: CHECKS[what]})
        assert finding.what == what
        assert (finding.level == "ok") == (finding.cure == "")
        return finding

    return check


def test_everything_a_run_needs_is_checked():
    assert {"runtime", "model", "camera", "storage", "power sensor", "broker"} <= CHECKS.keys()


def test_no_model_is_a_problem_with_its_option(checked):
    found = checked("model")
    assert (found.level, found.seen) == ("problem", "model.path is empty")
    assert "--model your.onnx" in found.cure


@pytest.mark.parametrize(("name", "seen"), [("none.onnx", "does not exist"), (".", "not a file")])
def test_a_model_that_is_no_file_is_a_problem(checked, tmp_path, name, seen):
    found = checked("model", model={"path": str(tmp_path / name)})
    assert found.level == "problem"
    assert seen in found.seen
    assert "model.path" in found.cure


def test_a_model_is_shown_with_its_size(checked, tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"0" * 2_500_000)
    found = checked("model", model={"path": "m.onnx"})
    assert found == Finding(level="ok", what="model", seen=f"{tmp_path}/m.onnx, 2.5 MB")


def test_no_camera_is_a_problem_with_its_option(checked):
    found = checked("camera")
    assert (found.level, found.seen) == ("problem", "camera.uri is empty")
    assert "--camera URI" in found.cure


def test_a_storage_that_is_not_there_yet_can_be_made_and_is_not(checked, tmp_path):
    assert checked("storage", storage={"dir": str(tmp_path / "a" / "b"), "max_mb": 16}).level in {
        "ok",
        "warning",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quantd.toml"]


@pytest.mark.parametrize("place", ["/proc/nope", "{file}", "{file}/below"])
def test_a_storage_that_can_not_be_made_is_a_problem(checked, tmp_path, place):
    (tmp_path / "file").write_text("")
    found = checked("storage", storage={"dir": place.format(file=tmp_path / "file")})
    assert found.level == "problem"
    assert "storage.dir" in found.cure


@pytest.mark.parametrize(("free", "level"), [(1023, "warning"), (1025, "ok")])
def test_little_space_is_a_warning_with_the_command_that_shows_it(
    checked, tmp_path, monkeypatch, free, level
):
    usage = needs.shutil.disk_usage(tmp_path)._replace(free=free * 10**6 + 10**6)
    monkeypatch.setattr(needs, "_LOW_DISK_MB", 1025)
    monkeypatch.setattr(needs.shutil, "disk_usage", lambda _: usage)
    found = checked("storage", storage={"dir": str(tmp_path), "max_mb": 16})
    assert found.level == level
    assert found.cure.startswith(f"`df -h {tmp_path}`" if level == "warning" else "")


def test_a_store_that_may_grow_beyond_the_disk_is_a_warning(checked, tmp_path):
    found = checked("storage", storage={"dir": str(tmp_path), "max_mb": 100_000_000})
    assert found.level == "warning"


def test_power_turned_off_is_turned_on_again_by_one_key(checked):
    found = checked("power sensor", measure={"power": "none"})
    assert found.level == "warning"
    assert found.cure == 'set measure.power = "auto"'


def test_no_broker_is_a_warning(checked):
    found = checked("broker")
    assert (found.level, found.seen) == ("warning", "mqtt.host is empty")
    assert "[mqtt]" in found.cure


def test_a_broker_that_takes_connections_is_ok(checked):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = checked("broker", mqtt={"host": "127.0.0.1", "port": port})
    assert found == Finding(level="ok", what="broker", seen=f"127.0.0.1:{port} accepts connections")


def test_a_broker_that_refuses_is_a_problem_with_the_command_to_try(checked):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    found = checked("broker", mqtt={"host": "127.0.0.1", "port": port})
    assert found.level == "problem"
    assert "refused" in found.seen
    assert f"`nc -vz 127.0.0.1 {port}`" in found.cure


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example"])
def test_a_name_that_can_be_no_broker_is_a_problem_not_a_crash(checked, host):
    found = checked("broker", mqtt={"host": host})
    assert found.level == "problem"
    assert "mqtt.host" in found.cure


def test_a_command_to_try_is_safe_to_paste(checked, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(broker.socket, "create_connection", unknown)
    found = checked("broker", mqtt={"host": "; rm -rf ~"})
    assert "nc -vz '; rm -rf ~' 8883" in found.cure


def test_a_python_without_any_runtime_names_the_command(checked, monkeypatch):
    for name in ("onnxruntime", "tensorrt"):
        monkeypatch.setitem(sys.modules, name, None)
    found = checked("runtime")
    assert found.level == "problem"
    assert "pip install " in found.cure
    assert found.cure.endswith(" 'onnxruntime>=1.20'`")


def test_two_onnx_runtimes_are_a_finding_with_the_commands_that_leave_one(
    checked, monkeypatch, tmp_path
):
    """The last one installed removes the provider of the other, and `pip check` is content."""
    monkeypatch.setattr(needs, "installed_version", lambda _: "1.32.0")
    found = checked("runtime", runtime={"kind": "onnxruntime"})
    assert found.level == "warning"
    assert "onnxruntime and onnxruntime-gpu are both installed" in found.seen
    assert "pip uninstall --yes onnxruntime onnxruntime-gpu`, then" in found.cure
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").touch()
    for jetson, wanted in ((False, "onnxruntime-gpu"), (True, "onnxruntime")):
        if jetson:
            (tmp_path / "etc").mkdir()
            (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3")
        found = needs.runtime(configuration.Config(), Machine(tmp_path))
        assert re.search(rf"pip install '{wanted}>=[\d.]+'`$", found.cure), found.cure


@pytest.mark.parametrize("what", CHECKS)
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CameraError("/dev/video0 is busy", hint="`fuser /dev/video0` shows the process"), "fuser"),
        (PowerError("no sample"), ""),
        (ImportError("libGL.so.1: cannot open shared object file"), "apt install libgl1"),
        (PermissionError(13, "Permission denied", "/dev/video0"), ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_check_that_fails_is_a_finding_and_the_others_still_run(what, error, words):
    def failing(_):
        raise error

    fine = ok("fine")
    found, last = examine(configuration.Config(), {what: failing, "next": lambda _: fine})
    assert (found.level, found.what, last) == ("problem", what, replace(fine, what="next"))
    assert getattr(error, "message", str(error)) in found.seen
    assert found.cure
    assert words in found.cure


@pytest.mark.slow
def test_the_runtime_and_a_camera_are_really_tried(checked, tmp_path):
    found = checked("runtime", runtime={"kind": "onnxruntime"})
    assert found.level == "ok"
    assert found.seen.startswith("onnxruntime ")
    found = checked("camera", camera={"uri": "synthetic://", "width": 64, "height": 48})
    assert found.level == "ok"
    assert "64x48" in found.seen
    found = checked("camera", camera={"uri": f"images://{tmp_path}/nowhere"})
    assert found.level == "problem"
    assert "nowhere" in found.seen


@pytest.mark.slow
def test_a_runtime_that_is_not_here_names_the_command(checked):
    found = checked("runtime", runtime={"kind": "tensorrt"})
    assert found.level == "ok" or "apt install python3-libnvinfer" in found.cure


@pytest.mark.slow
def test_the_sensor_in_use_or_the_reason_for_none_is_shown(checked):
    found = checked("power sensor")
    assert found.level in {"ok", "warning"}
    assert "rail" in found.seen or "no power sensor on this machine" in found.seen


@pytest.mark.slow
def test_the_verb_shows_a_table_or_json_and_fails_on_a_problem(tmp_path: Path, capsys):
    from agent.cli import main

    path = tmp_path / "quantd.toml"
    path.write_text(f'[storage]\ndir = "{tmp_path / "state"}"\n')
    assert main(["doctor", "-c", str(path), "--camera", "synthetic://"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "PROBLEM" in shown.err
    assert "model.path is empty" in shown.err
    (tmp_path / "m.onnx").write_bytes(b"0")
    more = ["--camera", "synthetic://", "--model", str(tmp_path / "m.onnx")]
    assert main(["doctor", "-c", str(path), "--json", *more]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    findings = json.loads(shown.out)
    shown_checks = [one["what"] for one in findings]
    assert shown_checks == [name for name in CHECKS if name in shown_checks]  # others don't apply
    assert {"runtime", "model", "camera", "broker", "memory"} <= set(shown_checks)
    assert all(one["cure"] for one in findings if one["level"] != "ok")
    assert not (tmp_path / "state").exists()


def test_a_gpu_that_fails_is_a_finding_and_not_a_traceback(checked, monkeypatch):
    fakes.install(monkeypatch).fails["init"] = fakes.Error("cuInit failed: no device")
    assert checked("runtime").level == "ok"  # ONNX Runtime is as good an answer on a laptop
    found = checked("runtime", runtime={"kind": "tensorrt"})
    assert found.level == "problem"
    assert "cuInit failed: no device" in found.seen


def test_on_a_jetson_a_runtime_without_tensorrt_is_worth_a_warning(monkeypatch, tmp_path):
    fakes.install(monkeypatch).fails["init"] = fakes.Error("cuInit failed: no device")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nv_tegra_release").write_text("# R36 (release), REVISION: 4.3")
    found = needs.runtime(configuration.Config(), Machine(tmp_path))
    assert found.level == "warning"
    assert "without TensorRT: no GPU can be used: cuInit failed: no device" in found.seen
