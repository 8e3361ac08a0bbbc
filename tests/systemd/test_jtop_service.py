"""install.sh --jtop under a systemd that was booted for it; the program itself is a stand-in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.booted import Booted, installed

pytestmark = pytest.mark.slow
INSTALLER = "/opt/quantd/share/quantd/systemd/install.sh"


def test_the_service_runs_from_the_prefix_and_quantd_is_in_its_group(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    shared = installed(prefix)
    program = prefix / "bin/jtop"
    program.write_text("#!/bin/sh\nexec sleep infinity\n")
    program.chmod(0o755)
    with Booted(tmp_path, shared) as machine:
        done = machine.run("sh", INSTALLER, "--jtop")
        assert done.returncode == 0, done.stderr
        shown = machine.run("systemctl", "show", "jtop", "--property=ActiveState,ExecStart").stdout
        assert "ActiveState=active" in shown
        assert "/opt/quantd/bin/jtop --force" in shown
        assert machine.run("systemctl", "is-enabled", "jtop").stdout == "enabled\n"
        assert "jtop" in machine.run("id", "-nG", "quantd").stdout.split()
        done = machine.run("sh", INSTALLER, "--uninstall")
        assert done.returncode == 0, done.stderr
        assert machine.run("systemctl", "is-active", "jtop").stdout == "inactive\n"
        assert machine.run("systemctl", "cat", "jtop").returncode != 0
