"""The installed unit under a systemd that was booted for it: the whole job, hardening and all."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.booted import Booted, installed
from tests.support.broker import Broker, any_broker
from tests.support.fleet import Console
from tests.support.scene import write_config

pytestmark = pytest.mark.slow
DEVICE = "cam-1"
DROP_IN = "/etc/systemd/system/quantd.service.d/quick.conf"
CONFIG = "/etc/quantd/quantd.toml"
SCENE = Path("/srv/scene")
APPLICATION = """\
[Service]
ExecStart=/bin/sleep infinity
ExecReload=/bin/sh -c 'test ! -e /run/refuse; echo $$? $(readlink /var/lib/quantd/current) >>/run/reloads; test ! -e /run/refuse'
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with any_broker(tmp_path) as found:
        yield found


@pytest.fixture
def console(broker: Broker) -> Iterator[Console]:
    with Console(broker.host, broker.port, DEVICE) as found:
        yield found


@pytest.fixture
def machine(tmp_path: Path, broker: Broker) -> Iterator[Booted]:
    """A booted machine with quantd installed, configured and not yet started."""
    scene, prefix = tmp_path / "scene", tmp_path / "prefix"
    scene.mkdir()
    prefix.mkdir()
    config = write_config(
        scene,
        camera={"uri": f"images://{SCENE}/pictures"},
        model={"path": f"{SCENE}/small.onnx"},
        mqtt={"host": broker.host, "port": broker.port},
        commands={"require_signature": False},
        search={"precisions": ["fp32", "int8"], "calibrators": ["minmax"]},
        storage={"dir": "/var/lib/quantd"},
    )
    with Booted(tmp_path, {**installed(prefix), scene: SCENE}) as found:
        found.write(
            "/etc/ld.so.conf.d/00-python.conf", "/opt/python/lib\n"
        )  # if it is not Debian's
        found.run("ldconfig")
        done = found.run("sh", "/opt/quantd/share/quantd/systemd/install.sh")
        assert done.returncode == 0, done.stderr
        found.write(CONFIG, config.read_text())
        yield found


def properties(machine: Booted) -> dict[str, str]:
    lines = machine.run("systemctl", "show", "quantd").stdout.splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def wait(machine: Booted, wanted: Callable[[dict[str, str]], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not wanted(properties(machine)):
        assert time.monotonic() < deadline, machine.run("journalctl", "-u", "quantd").stdout
        time.sleep(0.2)


def test_a_remote_command_is_carried_out_by_the_hardened_service(
    machine: Booted, console: Console
) -> None:
    started = machine.run("systemctl", "enable", "--now", "quantd")
    assert started.returncode == 0, machine.run("journalctl", "-u", "quantd").stdout
    found = properties(machine)
    assert (found["ActiveState"], found["User"]) == ("active", "quantd")
    console.wait("state", lambda m: m["status"] == "online")
    console.command("c1", {"v": 1, "id": "c1", "type": "reoptimize", "dev": DEVICE})
    result = console.result("c1")
    assert result["stage"] == "SUCCEEDED", machine.run("journalctl", "-u", "quantd").stdout
    as_another = machine.run(
        "setpriv", "--reuid=nobody", "cat", "/var/lib/quantd/current/model.json"
    )
    assert '"small"' in as_another.stdout, "applications could not read the release"
    private = "cat /var/lib/quantd/state.db /var/lib/quantd/runs/*/report.html"
    hidden = machine.run("setpriv", "--reuid=nobody", "sh", "-c", private)
    assert (hidden.stdout, hidden.returncode) == ("", 1), "others could read what the camera saw"
    assert machine.run("stat", "-c", "%U", "/var/lib/quantd/state.db").stdout == "quantd\n"
    assert machine.run("systemctl", "stop", "quantd").returncode == 0
    assert properties(machine)["Result"] == "success"
    console.wait("state", lambda m: m["status"] == "shutdown")


def test_a_daemon_that_dies_or_hangs_is_started_again_and_a_bad_configuration_is_not(
    machine: Booted, console: Console
) -> None:
    machine.write(DROP_IN, "[Service]\nWatchdogSec=3\nRestartSec=1\n")
    machine.run("systemctl", "daemon-reload")
    assert machine.run("systemctl", "start", "quantd").returncode == 0
    console.wait("state", lambda m: m["status"] == "online")
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "quantd")
    wait(machine, lambda p: (p["NRestarts"], p["ActiveState"]) == ("1", "active"))
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "quantd")
    wait(machine, lambda p: (p["NRestarts"], p["ActiveState"]) == ("2", "active"))
    machine.run("systemctl", "stop", "quantd")
    machine.write(CONFIG, "[camera]\nurl = 'x'\n")
    assert machine.run("systemctl", "start", "quantd").returncode != 0
    time.sleep(3)  # three times RestartSec
    found = properties(machine)
    assert (found["ActiveState"], found["ExecMainStatus"]) == ("failed", "2")
    log = machine.run("journalctl", "-u", "quantd", "--no-pager").stdout
    assert "camera.url" in log or "`url`" in log


def test_an_application_of_another_user_is_reloaded_by_the_printed_example(
    machine: Booted, console: Console
) -> None:
    machine.write("/etc/systemd/system/my-app.service", APPLICATION)
    assert machine.run("systemctl", "start", "my-app").returncode == 0
    shipped = machine.run("cat", "/opt/quantd/share/quantd/configs/quantd.toml").stdout
    (enable,) = re.findall(r"`(systemctl enable [^`]+)`", shipped)
    (example,) = re.findall(r"^# (reload = \[.+\])$", shipped, re.MULTILINE)
    config = machine.run("cat", CONFIG).stdout
    machine.write(CONFIG, f"{config}\n[activation]\n{example}\n")
    assert machine.run("systemctl", "start", "quantd").returncode == 0
    console.wait("state", lambda m: m["status"] == "online")

    def ended(command: str, **fields: object) -> dict[str, Any]:
        console.command(command, {"v": 1, "id": command, "dev": DEVICE, **fields})
        return console.result(command, 200)

    unheard = ended("c1", type="reoptimize")
    assert enable in unheard["reason"]["detail"]
    assert machine.run(*enable.split()).returncode == 0
    (release,) = machine.run("ls", "/var/lib/quantd/releases").stdout.split()
    machine.write("/run/refuse", "")
    refused = ended("c2", type="activate", args={"release": release})
    assert "reload-or-restart my-app failed" in refused["reason"]["detail"]
    machine.run("rm", "/run/refuse")
    done = ended("c3", type="activate", args={"release": release})
    assert done["stage"] == "SUCCEEDED", machine.run("journalctl", "-u", "quantd").stdout
    reloads = machine.run("cat", "/run/reloads").stdout.splitlines()
    tried, back, good = reloads  # the way back from the first release leads to none
    assert (tried, back.strip(), good) == (f"1 releases/{release}", "1", f"0 releases/{release}")
    installer = "/opt/quantd/share/quantd/systemd/install.sh"
    assert machine.run("sh", installer, "--uninstall").returncode == 0
    units = ("systemctl", "list-units", "--all", "--plain", "--no-legend", "quantd*")
    left = machine.run(*units).stdout.splitlines()  # systemd may not have forgotten the name yet
    assert [one.split()[1:4] for one in left if "not-found inactive dead" not in one] == []
