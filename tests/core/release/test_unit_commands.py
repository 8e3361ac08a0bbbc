"""Commands that can't work in the hardened unit are recognized; those that can are left alone."""

from __future__ import annotations

import pytest

from agent.core.release.unit_commands import refused_by_unit


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["systemctl", "reload", "my-app"], "systemctl"),
        (["/usr/bin/systemctl", "--no-block", "try-restart", "my-app"], "systemctl"),
        (["service", "my-app", "reload"], "service"),
        (["sudo", "systemctl", "reload", "my-app"], "sudo"),
        (["sh", "-c", "sleep 1; sudo -n systemctl reload my-app"], "sudo"),
        (["env", "A=1", "systemctl", "restart", "my-app"], "systemctl"),
        (["sh", "-c", "systemctl is-active my-app && systemctl reload my-app"], "systemctl"),
        (["pkill", "-HUP", "my-app"], "pkill"),
        (["bash", "-c", "kill -HUP $(cat /run/my-app.pid)"], "kill"),
        (["/home/me/bin/reload"], "/home/me/bin/reload"),
        (["python3", "/root/reload.py"], "/root/reload.py"),
    ],
)
def test_what_the_unit_refuses_is_named(argv, word):
    assert word in refused_by_unit(argv)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["sh", "/opt/quantd/share/quantd/systemd/reload.sh", "my-app"],
        ["systemctl", "is-active", "--quiet", "my-app"],
        ["systemctl", "--quiet", "is-active", "my-app"],
        ["service", "my-app", "status"],
        ["curl", "--fail", "http://127.0.0.1:8000/sudo"],
        ["my-app-check", "kill", "systemctl"],
        ["/opt/home/check"],
        ["sh", "-c", 'test "$(cat /run/my-app/release)" = "$QUANTD_RELEASE"'],
    ],
)
def test_other_commands_are_left_alone(argv):
    assert refused_by_unit(argv) == ""
