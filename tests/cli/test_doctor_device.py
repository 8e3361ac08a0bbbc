"""The doctor on a Jetson, whose files are a folder; and on this machine, which is none."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest

from agent import config as configuration
from agent.core.errors import ConfigError
from agent.doctor import device, examine, system
from agent.doctor.findings import Machine
from agent.wiring import boards

CONFIG = configuration.Config()
TREE = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/meminfo": "MemTotal:        7802000 kB\nMemAvailable:    5000000 kB\n",
    "proc/swaps": "Filename Type Size Used Priority\n/dev/zram0 partition 600000 0 5\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil",
    "sys/class/devfreq/17000000.gpu/min_freq": "306000000",
    "sys/class/devfreq/17000000.gpu/max_freq": "918000000",
    "run/jtop.sock": "",
    "usr/lib/python3.10/dist-packages/tensorrt/__init__.py": "",
}


@pytest.fixture
def jetson(tmp_path):
    """Return a function that makes a Jetson's tree, with files changed or (None) left out."""

    def make(**changed: str | None) -> Machine:
        for path, text in {**TREE, **changed}.items():
            if text is not None:
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / path).write_text(text)
        return Machine(tmp_path)

    return make


def of(**tables):
    return configuration.from_dump(tables)


def test_on_another_machine_the_looks_at_a_jetson_say_nothing(tmp_path):
    assert [look(CONFIG, Machine(tmp_path)) for look in device.LOOKS.values()] == [None] * 6


def test_a_board_that_is_known_is_named_and_one_that_is_not_says_what_to_do(jetson):
    found = device.board(of(device={"board": "orin-nano"}), jetson())
    assert (found.level, found.seen) == ("ok", "Jetson Orin Nano 8 GB (orin-nano)")
    found = device.board(CONFIG, jetson())
    assert found.level == "warning"
    assert "NVIDIA Jetson Orin Nano Developer Kit" in found.seen
    assert "device.board" in found.cure


@pytest.mark.parametrize(
    ("release", "level", "seen"),
    [
        ("# R36 (release), REVISION: 4.3, GCID", "ok", "36.4.3"),
        ("# R38 (release), REVISION: 2.0, GCID", "ok", "38.2.0"),
        ("# R35 (release), REVISION: 4.1, GCID", "problem", "35.4.1"),
        ("no such line", "warning", "no such line"),
    ],
)
def test_the_release_is_told_and_one_that_is_too_old_is_a_problem(jetson, release, level, seen):
    found = device.jetpack(CONFIG, jetson(**{"etc/nv_tegra_release": release}))
    assert found.level == level
    assert seen in found.seen


@pytest.fixture
def python(monkeypatch):
    """Return a function that sets this Python's version and what it can import."""

    def be(minor: int, *importable: str) -> None:
        monkeypatch.setattr(device.sys, "version_info", SimpleNamespace(major=3, minor=minor))
        monkeypatch.setattr(device, "find_spec", lambda name: name in importable or None)

    return be


def test_an_environment_that_hides_tensorrt_is_told_how_to_be_made(jetson, python):
    python(10)
    found = device.tensorrt(CONFIG, jetson())
    assert found.level == "problem"
    assert "/usr/lib/python3.10/dist-packages/tensorrt" in found.seen
    assert f"--system-site-packages {sys.prefix}" in found.cure


def test_another_python_than_tensorrts_is_told_which_to_use(jetson, python):
    python(12)
    found = device.tensorrt(CONFIG, jetson())
    assert "python3.10" in found.cure
    assert "--system-site-packages" not in found.cure


def test_tensorrt_that_is_not_installed_and_pycuda_that_is_not(jetson, python):
    tree = "usr/lib/python3.10/dist-packages/tensorrt/__init__.py"
    python(10)
    assert "apt install" in device.tensorrt(CONFIG, jetson(**{tree: None})).cure
    python(10, "tensorrt")
    assert "install pycuda" in device.tensorrt(CONFIG, jetson()).cure
    python(10, "tensorrt", "pycuda")
    assert device.tensorrt(CONFIG, jetson()).level == "ok"
    assert device.tensorrt(of(runtime={"kind": "onnxruntime"}), jetson()) is None


def test_a_group_that_is_missing_is_told_with_the_command(jetson, monkeypatch):
    (root := jetson().root).joinpath("dev/dri").mkdir(parents=True)
    monkeypatch.setattr(device.os, "geteuid", lambda: os.getuid() or 65534)
    names = {1: "quantd", 2: "video", 3: "render", 4: "jtop"}
    monkeypatch.setattr(device.grp, "getgrgid", lambda n: SimpleNamespace(gr_name=names[n]))
    monkeypatch.setattr(device.pwd, "getpwuid", lambda _: SimpleNamespace(pw_name="quantd"))
    monkeypatch.setattr(device.os, "getgroups", lambda: [1, 2])
    found = device.groups(CONFIG, Machine(root))
    assert found.cure.startswith("`sudo usermod -aG render,jtop quantd`")
    monkeypatch.setattr(device.os, "getgroups", lambda: [1, 2, 3, 4])
    assert device.groups(CONFIG, Machine(root)).level == "ok"


def test_a_client_without_its_service_and_a_service_without_a_client(jetson, monkeypatch):
    monkeypatch.setattr(device, "_version", lambda _: "4.3.2")
    assert device.jtop(CONFIG, jetson()).level == "ok"
    (jetson().root / "run/jtop.sock").unlink()
    gone = Machine(jetson(**{"run/jtop.sock": None}).root)
    assert "systemctl enable --now jtop" in device.jtop(CONFIG, gone).cure
    monkeypatch.setattr(device, "_version", lambda _: None)
    assert "pip install jetson-stats" in device.jtop(CONFIG, jetson()).cure
    assert device.jtop(of(measure={"power": "ina3221"}), jetson()) is None


@pytest.mark.parametrize(
    ("answer", "governor", "level"),
    [
        ("NV Power Mode: 15W\n0", "schedutil", "ok"),
        ("NV Power Mode: 15W\n0", "powersave", "warning"),
        ("", "schedutil", "warning"),
    ],
)
def test_the_mode_and_the_clocks_that_numbers_hold_for(
    jetson, monkeypatch, answer, governor, level
):
    monkeypatch.setattr(device, "told", lambda *_: answer)
    tree = {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": governor}
    found = device.clocks(CONFIG, jetson(**tree))
    assert found.level == level
    assert "GPU clock free" in found.seen
    locked = {"sys/class/devfreq/17000000.gpu/min_freq": "918000000"}
    assert "GPU clock locked" in device.clocks(CONFIG, jetson(**tree, **locked)).seen


def test_memory_and_swap_of_a_small_board(jetson):
    assert system.memory(CONFIG, jetson()).level == "ok"
    short = {"proc/meminfo": "MemTotal: 7802000 kB\nMemAvailable: 900000 kB\n"}
    assert system.memory(CONFIG, jetson(**short)).level == "warning"
    assert "922 of 7989 MB" in system.memory(CONFIG, jetson(**short)).seen
    assert system.swap(CONFIG, jetson()).level == "ok"
    header = TREE["proc/swaps"].splitlines()[0]
    assert "nvzramconfig" in system.swap(CONFIG, jetson(**{"proc/swaps": header})).cure
    card = {"proc/swaps": f"{header}\n/dev/mmcblk0p2 partition 1 0 1\n"}
    assert "swapoff /dev/mmcblk0p2" in system.swap(CONFIG, jetson(**card)).cure


def test_commands_that_nobody_or_anybody_can_give(tmp_path):
    def look(**commands):
        tables = {"mqtt": {"host": "b"}, "commands": {"keys_dir": str(tmp_path), **commands}}
        return system.commands(of(**tables))

    assert "holds no key" in look().seen
    assert look(require_signature=False).level == "warning"
    (tmp_path / "ops.pem").write_text("")
    assert (look().level, look().seen) == ("ok", "signed by ops")
    assert system.commands(CONFIG) is None


def test_a_service_that_failed_says_where_to_read(tmp_path, monkeypatch):
    assert system.service(CONFIG, Machine(tmp_path)) is None
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/quantd.service").touch()
    for state, level in (("active", "ok"), ("inactive", "warning"), ("failed", "problem")):
        monkeypatch.setattr(system, "told", lambda *_, state=state: state)
        assert system.service(CONFIG, Machine(tmp_path)).level == level


def test_a_board_file_that_is_not_right_is_a_finding(monkeypatch):
    def broken(_):
        raise ConfigError("mine.toml: unknown key", hint="configs/boards show every key")

    monkeypatch.setattr(boards, "board", broken)
    (found,) = examine(CONFIG, {"board": device.board})
    assert (found.level, found.cure) == ("problem", "configs/boards show every key")
