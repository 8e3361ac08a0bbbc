"""The doctor on a Jetson simulated by a folder of files, and on this machine, which is none."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from agent import config as configuration
from agent.adapters.host.board import unknown_board
from agent.core.errors import ConfigError
from agent.doctor import CHECKS, application, device, examine, measuring, system
from agent.doctor.findings import Machine
from agent.packages import installed_version
from agent.wiring import boards
from tests.support.fakejetson import boards as fake_boards
from tests.support.parts import missing_part

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


def test_the_checks_of_a_jetson_do_not_apply_to_another_machine(tmp_path):
    of_a_jetson = ("board", "JetPack", "TensorRT", "groups", "jtop", "clocks")
    checks = [CHECKS[name] for name in of_a_jetson]
    assert {check(CONFIG, Machine(tmp_path)) for check in checks} == {None}


def test_a_known_board_is_named_and_an_unknown_one_is_a_warning_with_its_cure(jetson):
    found = device.board(of(device={"board": "orin-nano"}), jetson())
    assert (found.level, found.seen) == ("ok", "Jetson Orin Nano 8 GB (orin-nano)")
    found = device.board(CONFIG, jetson())
    assert found.level == "warning"
    assert "NVIDIA Jetson Orin Nano Developer Kit" in found.seen
    assert "device.board" in found.cure


def in_a_container(root: Path, sign: str) -> Machine:
    """Return a Jetson with its device tree hidden, that one thing shows."""
    if sign == "kernel":
        (root / "proc/sys/kernel").mkdir(parents=True)
        (root / "proc/sys/kernel/osrelease").write_text("5.15.148-tegra\n")
    elif sign == "socket":
        (root / "run").mkdir()
        (root / "run/jtop.sock").touch()
    elif sign == "release":
        (root / "etc").mkdir()
        (root / "etc/nv_tegra_release").write_text(TREE["etc/nv_tegra_release"])
    else:
        fake_boards.build(root, sign)
    return Machine(root)


@pytest.mark.parametrize("sign", ["kernel", "socket", "release", "orin-nano", "agx-orin", "thor"])
def test_a_jetson_in_a_container_is_recognized_and_gets_what_to_set_or_to_mount(
    tmp_path, monkeypatch, sign
):
    machine = in_a_container(tmp_path, sign)
    assert machine.jetson
    found = device.board(CONFIG, machine)
    assert found.level == "warning"
    assert "device tree is hidden" in found.seen
    assert "device.board" in found.cure
    assert "systempaths=unconfined" in found.cure
    assert device.board(of(device={"board": "agx-thor"}), machine).level == "ok"
    if sign != "release":
        found = device.jetpack(CONFIG, machine)
        assert found.level == "warning"
        assert "-v /etc/nv_tegra_release:/etc/nv_tegra_release:ro" in found.cure
    if sign != "socket":
        monkeypatch.setattr(measuring, "installed_version", lambda _: "7.2.2")
        assert "-v /run/jtop.sock:/run/jtop.sock" in measuring.jtop(CONFIG, machine).cure
    monkeypatch.setattr(measuring, "power_mode", lambda: None)
    assert "mount /usr/sbin/nvpmodel" in measuring.clocks(CONFIG, machine).cure


def test_rails_of_another_name_or_chip_show_no_jetson(tmp_path):
    fake_boards.build(tmp_path, "orin-nano")
    for name in tmp_path.glob("sys/class/hwmon/*/name"):
        name.write_text("lm75\n")
    assert not Machine(tmp_path).jetson
    for name in tmp_path.glob("sys/class/hwmon/*/name"):
        name.write_text("ina3221\n")
    assert Machine(tmp_path).jetson
    for label in tmp_path.glob("sys/class/hwmon/*/in1_label"):
        label.write_text("VBUS\n")
    assert not Machine(tmp_path).jetson


def test_the_report_of_a_jetson_without_a_board_has_the_reason(monkeypatch, tmp_path):
    reason = unknown_board(str(in_a_container(tmp_path, "kernel").root))
    assert "kernel 5.15.148-tegra" in reason
    monkeypatch.setattr("agent.adapters.host.board.unknown_board", lambda: reason)
    assert boards.environment(CONFIG)["board_reason"] == reason
    known = boards.environment(of(device={"board": "orin-nano"}))
    assert "board_reason" not in known
    monkeypatch.undo()
    assert "board_reason" not in boards.environment(CONFIG)  # this machine is no Jetson


@pytest.mark.parametrize(
    ("release", "level", "seen"),
    [
        ("# R36 (release), REVISION: 4.3, GCID", "ok", "36.4.3"),
        ("# R38 (release), REVISION: 2.0, GCID", "ok", "38.2.0"),
        ("# R35 (release), REVISION: 4.1, GCID", "problem", "35.4.1"),
        ("no such line", "warning", "no such line"),
    ],
)
def test_the_release_is_shown_and_one_that_is_too_old_is_a_problem(jetson, release, level, seen):
    found = device.jetpack(CONFIG, jetson(**{"etc/nv_tegra_release": release}))
    assert found.level == level
    assert seen in found.seen


@pytest.fixture
def python(monkeypatch):
    """Return a function that sets this Python's version and what it can import."""

    def be(minor: int, *importable: str) -> None:
        monkeypatch.setattr(device.sys, "version_info", SimpleNamespace(major=3, minor=minor))
        monkeypatch.setattr(device, "find_spec", lambda name: name in importable or None)
        monkeypatch.setattr(device, "import_module", lambda _: None)

    return be


def test_an_environment_that_hides_tensorrt_gets_the_command_that_makes_a_new_one(jetson, python):
    python(10)
    found = device.tensorrt(CONFIG, jetson())
    assert found.level == "problem"
    assert "/usr/lib/python3.10/dist-packages/tensorrt" in found.seen
    assert f"--system-site-packages {sys.prefix}" in found.cure


def test_another_python_than_tensorrts_gets_the_one_to_use(jetson, python):
    python(12)
    found = device.tensorrt(CONFIG, jetson())
    assert "python3.10" in found.cure
    assert "--system-site-packages" not in found.cure


def test_tensorrt_that_is_not_installed_and_pycuda_that_is_not(jetson, python):
    tree = "usr/lib/python3.10/dist-packages/tensorrt/__init__.py"
    python(10)
    assert "apt install" in device.tensorrt(CONFIG, jetson(**{tree: None})).cure
    python(10, "tensorrt")
    without_headers = device.tensorrt(CONFIG, jetson()).cure
    assert without_headers.startswith("`sudo apt install nvidia-jetpack` for CUDA's headers, then ")
    cure = device.tensorrt(CONFIG, jetson(**{"usr/local/cuda/include/cuda.h": ""})).cure
    assert re.fullmatch(
        r"`\S* ?.*PATH=/usr/local/cuda/bin:\$PATH \S+.* install 'pycuda>=.+'`", cure
    )
    python(10, "tensorrt", "pycuda")
    assert device.tensorrt(CONFIG, jetson()).level == "ok"
    assert device.tensorrt(of(runtime={"kind": "onnxruntime"}), jetson()) is None


@pytest.mark.parametrize("error", ["ImportError", "OSError", "RuntimeError"])
@pytest.mark.parametrize("broken", ["tensorrt", "pycuda"])
def test_an_installed_module_that_does_not_load_is_a_problem_with_the_reason(
    jetson, tmp_path, monkeypatch, broken, error
):
    """As after an upgrade that took the library away which it was built for."""
    for name in ("tensorrt", "pycuda"):
        (tmp_path / "site" / name).mkdir(parents=True)
        (tmp_path / "site" / name / "__init__.py").touch()
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "site/pycuda/driver.py").touch()
    monkeypatch.delitem(sys.modules, "pycuda.driver", raising=False)
    file = "tensorrt/__init__.py" if broken == "tensorrt" else "pycuda/driver.py"
    (tmp_path / "site" / file).write_text(f"raise {error}('libx.so.10: cannot open')\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = device.tensorrt(CONFIG, jetson())
    for name in ("tensorrt", "pycuda", "pycuda.driver"):
        sys.modules.pop(name, None)
    assert found.level == "problem"
    assert "libx.so.10" in found.seen
    assert ("pip install" if broken == "pycuda" else "apt install") in found.cure


@pytest.fixture
def user(monkeypatch):
    """Return a function that sets the user and the groups of this process, by number."""
    names = {1: "quantd", 2: "video", 3: "render", 4: "jtop"}

    def be(number: int, *groups: int, known: bool = True) -> None:
        def named(_):
            if not known:
                raise KeyError("name not found")
            return SimpleNamespace(pw_name="quantd", pw_gid=1)

        monkeypatch.setattr(device.os, "geteuid", lambda: number)
        monkeypatch.setattr(device.os, "getegid", lambda: groups[0])
        monkeypatch.setattr(device.os, "getgroups", lambda: list(groups))
        monkeypatch.setattr(device.os, "getgrouplist", lambda *_: list(groups))
        monkeypatch.setattr(device.pwd, "getpwuid", named)
        monkeypatch.setattr(device.pwd, "getpwnam", named)
        everyone = [SimpleNamespace(gr_gid=n, gr_name=name) for n, name in names.items()]
        monkeypatch.setattr(device.grp, "getgrall", lambda: everyone)

    return be


@pytest.fixture
def with_gpu(jetson):
    machine = jetson()
    (machine.root / "dev/dri").mkdir(parents=True)
    return machine


def test_a_missing_group_is_a_warning_with_the_command(with_gpu, user):
    user(1000, 1, 2)
    assert device.groups(CONFIG, with_gpu).cure == (
        "`sudo usermod -aG render quantd`, then log in again"
    )
    user(1000, 1, 2, 3)
    found = device.groups(CONFIG, with_gpu)
    assert (found.level, found.seen) == ("ok", "quantd is in video, render")


def test_the_group_of_jtop_is_asked_for_only_where_jtop_is(with_gpu, user):
    """Its members can do what root can."""
    user(1000, 1, 2, 3)
    asked = of(measure={"power": "jtop"})
    assert "-aG jtop quantd" in device.groups(asked, with_gpu).cure
    user(1000, 1, 2, 3, 4)
    assert device.groups(asked, with_gpu).level == "ok"


def test_a_group_is_not_asked_for_that_opens_nothing_here(jetson, user):
    user(1000, 1)
    assert device.groups(CONFIG, jetson()) is None
    (jetson().root / "dev").mkdir()
    found = device.groups(CONFIG, jetson())
    assert "-aG video quantd" in found.cure


def test_root_asks_for_the_user_of_the_service(with_gpu, user):
    user(0, 1, 3)
    found = device.groups(CONFIG, with_gpu)
    assert found.seen == "quantd is not in video"
    assert "systemctl restart quantd" in found.cure
    user(0, 0, known=False)  # no service is installed: root may open everything
    assert device.groups(CONFIG, with_gpu) is None


def test_numbers_without_names_are_no_problem(with_gpu, user):
    user(54321, 987654, 2, 3, known=False)
    found = device.groups(CONFIG, with_gpu)
    assert (found.level, found.seen) == ("ok", "54321 is in video, render")


def test_a_client_without_its_service_and_a_service_without_a_client(jetson, monkeypatch):
    monkeypatch.setattr(measuring, "installed_version", lambda _: "4.3.2")
    monkeypatch.setattr(measuring, "command_output", lambda *_: "")
    assert measuring.jtop(CONFIG, jetson()).level == "ok"
    (jetson().root / "run/jtop.sock").unlink()
    stopped = jetson(**{"run/jtop.sock": None})
    assert "systemd/install.sh --jtop`" in measuring.jtop(CONFIG, stopped).cure
    stopped = jetson(
        **{
            "run/jtop.sock": None,
            "lib/systemd/system/jtop.service": "[Service]\nExecStart=/usr/bin/jtop --force\n",
            "usr/bin/jtop": "",
        }
    )
    assert "`sudo systemctl enable --now jtop`" in measuring.jtop(CONFIG, stopped).cure
    monkeypatch.setattr(measuring, "installed_version", lambda _: None)
    assert "pip install 'jetson-stats>=" in measuring.jtop(CONFIG, jetson()).cure
    assert measuring.jtop(of(measure={"power": "ina3221"}), jetson()) is None


@pytest.mark.parametrize("drop_in", [False, True])
def test_a_service_that_starts_what_is_not_there_is_found(jetson, monkeypatch, drop_in):
    """`jtop --install-service` in a virtual environment reports success, and nothing starts."""
    monkeypatch.setattr(measuring, "installed_version", lambda _: "7.2.2")
    monkeypatch.setattr(measuring, "command_output", lambda *_: "jtop 7.2.2")
    unit = "[Service]\nExecStart=/usr/local/bin/jtop --force\n"
    tree = {"etc/systemd/system/jtop.service": unit, "opt/quantd/bin/jtop": ""}
    if drop_in:
        ours = "[Service]\nExecStart=\nExecStart=/opt/quantd/bin/jtop --force\n"
        tree["etc/systemd/system/jtop.service.d/quantd.conf"] = ours
    found = measuring.jtop(CONFIG, jetson(**tree))
    assert found.level == ("ok" if drop_in else "warning")
    if not drop_in:
        assert "/usr/local/bin/jtop, which does not exist" in found.seen
        assert re.fullmatch(r"`sudo sh /\S+/systemd/install.sh --jtop`", found.cure)


@pytest.mark.parametrize(
    ("service", "level"), [("7.2.2", "warning"), ("4.3.1", "ok"), ("", "ok"), ("nonsense", "ok")]
)
def test_a_service_of_another_series_is_a_warning_with_the_version_to_install(
    jetson, monkeypatch, service, level
):
    def command_output(*command):
        assert command == ("/opt/jtop/bin/jtop", "--version")
        return f"jtop {service}"

    monkeypatch.setattr(measuring, "installed_version", lambda _: "4.3.2")
    monkeypatch.setattr(measuring, "command_output", command_output)
    unit = "[Service]\nEnvironment=JTOP_SERVICE=True\nExecStart=/opt/jtop/bin/jtop --force\n"
    machine = jetson(**{"etc/systemd/system/jtop.service": unit, "opt/jtop/bin/jtop": ""})
    found = measuring.jtop(CONFIG, machine)
    assert found.level == level
    if level == "warning":
        assert found.seen == "client 4.3.2, service 7.2.2"
        assert "pip install jetson-stats==7.2.2" in found.cure


@pytest.mark.parametrize(
    ("mode", "governor", "level"),
    [
        ("15W", "schedutil", "ok"),
        ("15W", "powersave", "warning"),
        (None, "schedutil", "warning"),
    ],
)
def test_the_mode_and_the_clocks_that_latencies_depend_on(
    jetson, monkeypatch, mode, governor, level
):
    monkeypatch.setattr(measuring, "power_mode", lambda: mode)
    tree = {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": governor}
    found = measuring.clocks(CONFIG, jetson(**tree))
    assert found.level == level
    assert "GPU clock free" in found.seen
    locked = {"sys/class/devfreq/17000000.gpu/min_freq": "918000000"}
    assert "GPU clock locked" in measuring.clocks(CONFIG, jetson(**tree, **locked)).seen


@pytest.mark.parametrize("gpu", ["17000000.gpu", "17000000.ga10b", "gpu-gpc-0"])
def test_the_gpu_of_each_board_is_found_and_what_is_no_number_is_unknown(
    tmp_path, monkeypatch, gpu
):
    monkeypatch.setattr(measuring, "power_mode", lambda: "MAXN")
    folder = tmp_path / "sys/class/devfreq" / gpu
    folder.mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").touch()
    for low, high, clock in (
        (b"918000000\n", b"918000000\n", "locked"),
        (b"306000000\n", b"918000000\n", "free"),
        (b"\xff\xfe", b"918000000\n", "unknown"),
        (b"", b"", "unknown"),
    ):
        (folder / "min_freq").write_bytes(low)
        (folder / "max_freq").write_bytes(high)
        seen = measuring.clocks(CONFIG, Machine(tmp_path)).seen
        assert seen.endswith(f"GPU clock {clock}")


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


@pytest.mark.parametrize(
    ("mounts", "level"),
    [
        ("/dev/mmcblk0p1 / ext4 rw 0 0", "warning"),
        ("/dev/nvme0n1p1 / ext4 rw 0 0", "ok"),
        ("/dev/mmcblk0p1 / ext4 rw 0 0\n/dev/nvme0n1p1 /mnt/my\\040disk ext4 rw 0 0", "ok"),
        ("/dev/mmcblk0p1 /mnt ext4 rw 0 0\n/dev/nvme0n1p1 /mnt/my ext4 rw 0 0", "warning"),
        ("/dev/mmcblk0p1 / ext4 rw 0 0\n/dev/nvme0n1p1 / ext4 rw 0 0", "ok"),  # the last counts
        ("nonsense\n\n", "ok"),
        ("", "ok"),
    ],
)
def test_a_swap_file_on_a_card_is_found_by_what_is_mounted(jetson, mounts, level):
    header = TREE["proc/swaps"].splitlines()[0]
    swaps = f"{header}\n/mnt/my\\040disk/swapfile file 8388604 0 -2\n"
    found = system.swap(CONFIG, jetson(**{"proc/swaps": swaps, "proc/self/mounts": mounts}))
    assert found.level == level
    if level == "warning":
        assert "swapoff '/mnt/my disk/swapfile'" in found.cure


def test_a_workspace_larger_than_free_memory_is_a_warning(jetson):
    found = system.memory(of(runtime={"workspace_mb": 6000}), jetson())
    assert found.level == "warning"
    assert "runtime.workspace_mb = 6000" in found.cure
    assert system.memory(of(runtime={"workspace_mb": 2000}), jetson()).level == "ok"


def test_commands_without_a_key_and_without_signatures(tmp_path):
    def check(**commands):
        tables = {"mqtt": {"host": "b"}, "commands": {"keys_dir": str(tmp_path), **commands}}
        return system.commands(of(**tables))

    assert "contains no key" in check().seen
    assert check(require_signature=False).level == "warning"
    assert system.commands(CONFIG) is None


def test_a_failed_service_is_a_problem_with_its_log(tmp_path, monkeypatch):
    assert system.service(CONFIG, Machine(tmp_path)) is None
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/quantd.service").touch()
    for state, at_boot, level in (
        ("active", "enabled", "ok"),
        ("active", "disabled", "warning"),
        ("active", "", "ok"),
        ("inactive", "enabled", "warning"),
        ("failed", "enabled", "problem"),
    ):
        answers = {"is-active": state, "is-enabled": at_boot}
        monkeypatch.setattr(system, "command_output", lambda *words, a=answers: a[words[1]])
        assert system.service(CONFIG, Machine(tmp_path)).level == level
    unit = "[Service]\nExecStart=/opt/old/bin/quantd run\n"
    (tmp_path / "etc/systemd/system/quantd.service").write_text(unit)
    found = system.service(CONFIG, Machine(tmp_path))
    assert (found.level, "/opt/old/bin/quantd, which does not exist" in found.seen) == (
        "problem",
        True,
    )
    assert found.cure.endswith("systemd/install.sh`")


def test_commands_for_the_application_are_checked_against_the_installed_unit(tmp_path, monkeypatch):
    def check(**keys):
        config = replace(CONFIG, activation=replace(CONFIG.activation, **keys))
        return application.application(config, Machine(tmp_path))

    def answer(state):
        monkeypatch.setattr(application, "command_output", lambda *_: state)

    direct, asks = ("env", "systemctl", "reload", "my-app"), ("sh", "/opt/q/reload.sh", "my-app")
    assert check() is None
    assert check(health=("/nowhere/check",)).level == "problem"
    assert check(reload=direct).level == "ok", "run by hand, as root, it works"
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/quantd.service").touch()
    found = check(reload=direct)
    assert (found.level, "activation.reload: `systemctl`" in found.seen) == ("warning", True)
    assert "reload.sh" in found.cure
    answer("active")
    assert check(reload=asks, health=("true",)).level == "ok"
    answer("inactive")
    found = check(reload=asks)
    assert (found.level, found.cure) == (
        "problem",
        "`sudo systemctl enable --now quantd-reload@my-app.path`",
    )


def test_a_board_file_that_is_not_right_is_a_finding(monkeypatch):
    def broken(_):
        raise ConfigError("mine.toml: unknown key", hint="configs/boards show every key")

    monkeypatch.setattr(boards, "board", broken)
    (found,) = examine(CONFIG, {"board": device.board})
    assert (found.level, found.cure) == ("problem", "configs/boards show every key")


def test_a_file_with_unexpected_content_is_a_finding():
    def check(_):
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    (found,) = examine(CONFIG, {"clocks": check})
    assert found.level == "problem"


@pytest.mark.slow
def test_the_commands_of_a_jetson_are_really_asked(jetson, tmp_path, monkeypatch):
    bin_ = tmp_path / "fake-bin"
    bin_.mkdir()
    for name, answer in (
        ("nvpmodel", "NV Power Mode: MODE_30W\n2"),
        ("jtop", "jtop 7.2.2"),
        ("systemctl", "active"),
    ):
        (bin_ / name).write_text(f"#!/bin/sh\necho '{answer}'\n")
        (bin_ / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.setattr(measuring, "installed_version", lambda _: "4.3.2")
    unit = f"ExecStart={bin_}/jtop --force\n"
    machine = jetson(
        **{
            "etc/systemd/system/jtop.service": unit,
            "etc/systemd/system/quantd.service": "",
            f"{bin_}/jtop".lstrip("/"): "",
        }
    )
    assert measuring.clocks(CONFIG, machine).seen.startswith("power mode MODE_30W")
    assert measuring.jtop(CONFIG, machine).seen == "client 4.3.2, service 7.2.2"
    assert system.service(CONFIG, machine).level == "ok"
    (bin_ / "nvpmodel").write_text("#!/bin/sh\nexit 1\n")
    assert measuring.clocks(CONFIG, machine).level == "warning"


@pytest.mark.slow
def test_the_version_of_the_real_jtop_is_read(jetson):
    """Its command is what the unit of the service starts."""
    program = shutil.which("jtop", path=str(Path(sys.executable).parent))
    version = installed_version("jetson-stats")
    if program is None or version is None:
        missing_part("jetson-stats", "pip install jetson-stats")
    unit = f"ExecStart={program} --force\n"
    tree = {"etc/systemd/system/jtop.service": unit, program.lstrip("/"): ""}
    found = measuring.jtop(CONFIG, jetson(**tree))
    assert (found.level, found.seen) == ("ok", f"client {version}, service {version}")
