"""The unit file, its installer, and what the daemon sends to systemd."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import uuid
from pathlib import Path

import pytest

from agent.adapters.host.notifier import SystemdNotifier
from tests.support.parts import missing_part

ROOT = Path(__file__).parents[2]
UNIT = "etc/systemd/system/quantd.service"


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """A notification socket as systemd makes it; yields a function that reads one datagram."""
    if request.param == "path":
        name = address = str(tmp_path / "notify")
    else:
        unique = f"quantd-{uuid.uuid4()}"
        name, address = "@" + unique, "\0" + unique
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield lambda: receiver.recv(4096).decode().split("\n")


def test_states_reach_the_service_manager(manager):
    notifier = SystemdNotifier()
    notifier.ready("waiting for work")
    assert manager() == ["READY=1", "STATUS=waiting for work"]
    notifier.alive("measuring 3 of 7")
    assert manager() == ["WATCHDOG=1", "STATUS=measuring 3 of 7"]
    notifier.stopping()
    assert manager()[0] == "STOPPING=1"


def test_a_status_cannot_smuggle_in_another_assignment(manager):
    SystemdNotifier().alive("model a\nMAINPID=1\r\nb")
    assert manager() == ["WATCHDOG=1", "STATUS=model a MAINPID=1 b"]


@pytest.mark.parametrize("name", [None, "", "vsock:2:1234", "relative"])
def test_without_a_usable_socket_it_is_silent(name, monkeypatch):
    if name is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", name)
    notifier = SystemdNotifier()
    notifier.ready("x")
    notifier.alive("x")
    notifier.stopping()


def test_a_service_manager_that_hangs_or_has_ended_does_not_stop_the_daemon(tmp_path, monkeypatch):
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        notifier = SystemdNotifier()
        for _ in range(2000):  # nothing is read: the queue fills, and a blocking send would hang
            notifier.alive("x")
    path.unlink()
    notifier.alive("x")


def test_a_start_may_take_as_long_as_the_application_s_commands():
    """They run before the daemon is ready, where a switch of releases was cut off."""
    unit = (ROOT / "systemd/quantd.service").read_text()
    assert "\nTimeoutStartSec=infinity\n" in unit


def install(root, *options):
    command = ["sh", str(ROOT / "systemd/install.sh"), "--root", str(root), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def prefix(tmp_path):
    """A folder that looks as if quantd were installed in it."""
    program = tmp_path / "venv/bin/quantd"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program.parents[1]


def files(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_installing_twice_changes_nothing_and_keeps_the_configuration(tmp_path, prefix):
    root = tmp_path / "root"
    first = install(root, "--prefix", str(prefix))
    assert first.returncode == 0, first.stderr
    assert set(files(root)) == {
        UNIT,
        "etc/systemd/system/quantd-reload@.path",
        "etc/systemd/system/quantd-reload@.service",
        "etc/sysusers.d/quantd.conf",
        "etc/tmpfiles.d/quantd.conf",
        "etc/quantd/quantd.toml",
        "usr/local/bin/quantd",
    }
    assert (root / "usr/local/bin/quantd").readlink() == prefix / "bin/quantd"
    (root / "etc/quantd/quantd.toml").write_text("[device]\nid = 'mine'\n")
    before = files(root)
    second = install(root, "--prefix", str(prefix))
    assert second.returncode == 0
    assert files(root) == before
    assert "wrote" not in second.stdout


@pytest.mark.slow
def test_uninstalling_leaves_configuration_only_and_may_be_repeated(tmp_path, prefix):
    root = tmp_path / "root"
    install(root, "--prefix", str(prefix))
    for _ in range(2):
        assert install(root, "--uninstall").returncode == 0
        assert set(files(root)) == {"etc/quantd/quantd.toml"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--prefix", "/nowhere"], 1, "/nowhere/bin/quantd"),
        (["--prefix", "relative"], 2, "absolute"),
        (["--prefix", "/a b"], 2, "character"),
        (["--prefix"], 2, "needs a folder"),
        (["--frobnicate"], 2, "unknown option"),
    ],
)
def test_what_cannot_be_installed_is_an_error_and_nothing_is_written(
    tmp_path, options, status, words
):
    done = install(tmp_path / "root", *options)
    assert done.returncode == status
    assert words in done.stderr
    assert not (tmp_path / "root").exists()


@pytest.mark.slow
@pytest.mark.parametrize("hidden", ["/home/u/quantd", "/root/quantd", "/run/user/1000/q", "/home"])
@pytest.mark.parametrize("way", ["prefix", "link", "interpreter", "linked interpreter"])
def test_a_path_that_the_unit_hides_from_the_service_is_refused(tmp_path, prefix, hidden, way):
    """ProtectHome shows empty folders there: the service would fail with 203/EXEC."""
    image = tmp_path / "image"
    shown = hidden if way == "prefix" else "/opt/quantd"
    (image / shown.lstrip("/")).mkdir(parents=True)
    program = image / shown.lstrip("/") / "bin/quantd"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    if way == "link":
        target = image / hidden.lstrip("/") / "x"
        target.parent.mkdir(parents=True)
        program.parents[1].rename(target)
        program.parents[1].symlink_to(target)
    elif way == "interpreter":
        program.write_text(f"#!{hidden}/bin/python -s\n")
    elif way == "linked interpreter":
        (program.parent / "python").symlink_to(f"{hidden}/bin/python3")
        program.write_text(f"#!{image}/opt/quantd/bin/python\n")
    before = files(image)
    done = install(image, "--prefix", shown)
    assert (done.returncode, files(image)) == (2, before), done.stdout
    assert "ProtectHome" in done.stderr
    assert hidden in done.stderr


@pytest.mark.slow
def test_an_image_below_a_home_folder_is_no_prefix_there(tmp_path, prefix):
    image = tmp_path / "home" / "u" / "image"
    (image / "opt").mkdir(parents=True)
    prefix.rename(image / "opt" / "quantd")
    done = install(image, "--prefix", "/opt/quantd")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_model_in_a_home_folder_is_warned_of(tmp_path, prefix):
    root = tmp_path / "root"
    config = root / "etc/quantd/quantd.toml"
    config.parent.mkdir(parents=True)
    config.write_text('#path = "/home/u/old.onnx"\n[camera]\nuri = "file:///home/u/clip.mp4"\n')
    done = install(root, "--prefix", str(prefix))
    assert done.returncode == 0, done.stderr
    assert "warning" in done.stderr
    assert "file:///home/u/clip.mp4" in done.stderr
    assert "old.onnx" not in done.stderr


@pytest.mark.slow
def test_systemd_finds_no_fault_with_the_unit(tmp_path, prefix):
    if shutil.which("systemd-analyze") is None:
        missing_part("systemd-analyze", "apt install systemd")
    root = tmp_path / "root"
    install(root, "--prefix", str(prefix))
    unit = root / UNIT
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    reload = [str(unit.parent / f"quantd-reload@my-app.{kind}") for kind in ("path", "service")]
    for path in reload:
        Path(path).symlink_to(path.replace("my-app", ""))
    seen = subprocess.run(
        [*command, *reload], capture_output=True, text=True, check=False, timeout=60
    )
    assert (seen.returncode, seen.stderr) == (0, "")
    unit.write_text(unit.read_text() + "[Service]\nRestart=sometimes\n")
    seen = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "sometimes" in seen.stderr, "verify would not have noticed a fault"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tool", "file"),
    [("systemd-sysusers", "sysusers"), ("systemd-tmpfiles", "tmpfiles")],
)
def test_user_and_folders_are_understood(tmp_path, tool, file):
    if shutil.which(tool) is None:
        missing_part(tool, "apt install systemd")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/group").write_text("root:x:0:\nquantd:x:0:\n")
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    conf = ROOT / f"systemd/quantd.{file}.conf"
    options = ["--create"] if file == "tmpfiles" else []
    as_root = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]  # it sets owners
    command = [*as_root, tool, f"--root={tmp_path}", *options, str(conf)]
    seen = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (seen.returncode, [line for line in seen.stderr.splitlines() if "rror" in line]) == (
        0,
        [],
    ), seen.stderr
    if file == "tmpfiles":
        assert (tmp_path / "etc/quantd/keys").is_dir()
    else:
        passwd = (tmp_path / "etc/passwd").read_text()
        assert "quantd" in passwd
        for group in ("video", "render"):
            assert re.search(f"^{group}:.*quantd$", (tmp_path / "etc/group").read_text(), re.M)
