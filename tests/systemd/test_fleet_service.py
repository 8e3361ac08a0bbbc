"""`quantd fleet` as its unit runs it, under a systemd that was booted for it."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.support.booted import Booted, installed
from tests.support.broker import any_broker, free_port
from tests.support.parts import missing_part

pytestmark = pytest.mark.slow
UNIT = Path(__file__).parents[2] / "systemd/quantd-fleet.service"
_MOST_EXPOSED = 2.5  # of 10, as `systemd-analyze security` counts


def test_systemd_finds_the_unit_well_protected(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        missing_part("systemd-analyze", "apt install systemd")
    command = ["systemd-analyze", "security", "--offline=yes", str(UNIT)]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    level = re.search(r"exposure level for \S+: ([\d.]+)", seen)
    assert level, seen
    assert float(level[1]) <= _MOST_EXPOSED, seen


def test_the_console_runs_hardened_and_keeps_its_state(tmp_path: Path) -> None:
    prefix, port = tmp_path / "prefix", free_port()
    prefix.mkdir()
    with any_broker(tmp_path) as broker, Booted(tmp_path, installed(prefix)) as machine:
        machine.write("/etc/ld.so.conf.d/00-python.conf", "/opt/python/lib\n")
        machine.run("ldconfig")
        machine.write("/etc/systemd/system/quantd-fleet.service", UNIT.read_text())
        machine.write(
            "/etc/systemd/system/quantd-fleet.service.d/here.conf",
            "[Service]\nExecStart=\nExecStart=/opt/quantd/bin/quantd fleet --database "
            f"/var/lib/quantd-fleet/fleet.db --broker 127.0.0.1:{broker.port} --listen {port}\n",
        )
        machine.run("systemctl", "daemon-reload")
        for _ in range(2):  # the second start finds what the first one left
            assert machine.run("systemctl", "start", "quantd-fleet").returncode == 0
            page = _page(machine, f"http://127.0.0.1:{port}/sign-in")
            assert "Sign in" in page
            files = machine.run("ls", "/var/lib/private/quantd-fleet").stdout
            assert {"fleet.db", "console.db"} <= set(files.split())
            assert machine.run("systemctl", "stop", "quantd-fleet").returncode == 0
            shown = machine.run(
                "systemctl", "show", "quantd-fleet", "--property=Result,ExecMainStatus"
            )
            assert set(shown.stdout.split()) == {"Result=success", "ExecMainStatus=0"}
        assert "/link/" in machine.run("journalctl", "-u", "quantd-fleet").stdout


def _page(machine: Booted, url: str) -> str:
    """Return a page once it is served."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            log = machine.run("journalctl", "-u", "quantd-fleet").stdout
            assert time.monotonic() < deadline, log
            time.sleep(0.2)
