"""This machine's own file system, booted again by a systemd of its own; nothing of it is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from agent.config.toml import read_toml
from tests.support.parts import missing_part

REPOSITORY = Path(__file__).parents[2]
_PREFIX = Path("/opt/quantd")
_PYTHON = Path("/opt/python")
_BOOT_S = 60.0


class Booted:
    """A container with the host's root under an overlay in memory; it shares the network.

    Args:
        folder: Contains the mount point and the console's log.
        shared: Folders of the host and where they are seen, read only.
    """

    def __init__(self, folder: Path, shared: Mapping[Path, Path]) -> None:
        self._root = folder / "root"
        self._log = folder / "console.log"
        self._shared = shared
        self._leader = 0
        self._outer: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Booted:
        if shutil.which("systemd-nspawn") is None:
            missing_part("systemd-nspawn", "apt install systemd-container")
        if os.geteuid() != 0:
            pytest.skip("systemd-nspawn needs root")
        self._root.mkdir()
        options = ["--quiet", f"--directory={self._root}", "--volatile=overlay"]
        options += ["--register=no", "--keep-unit", "--link-journal=no", "--timezone=off"]
        options += [f"--machine=quantd-{os.getpid()}", "--resolv-conf=off"]
        options += [f"--bind-ro={a}:{b}" for a, b in self._shared.items()]
        script = 'mount --bind / "$0" && exec systemd-nspawn "$@"'
        boot = ["--boot", "--", "--unit=basic.target"]
        with self._log.open("wb") as log:
            self._outer = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", script, str(self._root), *options, *boot],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _BOOT_S
        while not self._is_up():
            if self._outer.poll() is not None or time.monotonic() > deadline:
                log = self._log.read_text(errors="replace")[-2000:]
                self.__exit__()
                pytest.skip(f"systemd can't be booted in a container here: {log}")
            time.sleep(0.1)
        return self

    def _is_up(self) -> bool:
        assert self._outer is not None
        if not self._leader:
            children = psutil.Process(self._outer.pid).children(recursive=True)
            inside = [child for child in children if _name(child) == "systemd"]
            if not inside:
                return False
            self._leader = inside[0].pid
        return self.run("systemctl", "is-active", "basic.target").stdout.strip() == "active"

    def run(self, *command: object, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root."""
        return subprocess.run(
            ["nsenter", f"--target={self._leader}", "--all", *map(str, command)],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def write(self, path: str, text: str) -> None:
        """Write a file inside."""
        script = 'mkdir -p "$(dirname "$0")" && cat >"$0"'
        done = self.run("sh", "-c", script, path, text=text)
        assert done.returncode == 0, done.stderr

    def __exit__(self, *_: object) -> None:
        if self._outer is not None:
            if self._leader:
                self.run("systemctl", "poweroff", "--force", "--force")
            try:
                self._outer.wait(10)
            except subprocess.TimeoutExpired:
                self._outer.kill()
                self._outer.wait(10)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:  # nspawn has short-lived children
        return ""


def installed(folder: Path) -> dict[Path, Path]:
    """Lay quantd out under folder as its wheel would be, and return what a container must see.

    The interpreter and its packages are seen under /opt too, since a service with ProtectHome
    sees nothing of /root and /home.
    """
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = [Path(path) for path in sys.path if Path(path).name == "site-packages"]
    shared = {Path(sys.base_prefix): _PYTHON} if sys.base_prefix != "/usr" else {}
    python = _PYTHON if shared else Path("/usr")
    seen = {path: Path(f"/opt/packages-{number}") for number, path in enumerate(packages)}
    own = folder / "lib" / name / "site-packages"
    shutil.copytree(
        REPOSITORY / "agent", own / "agent", ignore=shutil.ignore_patterns("__pycache__")
    )
    (own / "borrowed.pth").write_text("".join(f"{path}\n" for path in seen.values()))
    for source, target in _wheel("force-include").items():
        copy = shutil.copytree if (REPOSITORY / source).is_dir() else shutil.copyfile
        copy(REPOSITORY / source, own / target)
    for source, target in _wheel("shared-data").items():
        shutil.copytree(REPOSITORY / source, folder / target)
    (folder / "bin").mkdir()
    (folder / "bin/python").symlink_to(python / "bin" / name)
    (folder / "pyvenv.cfg").write_text(f"home = {python}/bin\n")
    program = folder / "bin/quantd"
    program.write_text(
        f"#!{_PREFIX}/bin/python\nfrom agent.cli import main\nraise SystemExit(main())\n"
    )
    program.chmod(0o755)
    folder.chmod(0o755)
    return {folder: _PREFIX, **shared, **seen}


def _wheel(table: str) -> dict[str, str]:
    """Return where the wheel puts what is not the package itself."""
    project = read_toml(REPOSITORY / "pyproject.toml")
    found: dict[str, str] = project["tool"]["hatch"]["build"]["targets"]["wheel"][table]
    return found
