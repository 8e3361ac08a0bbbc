"""The real jtop service of jetson-stats, seeing a made-up /sys and nothing of this machine's.

The service runs as it was released, in a mount namespace of its own where /sys, /run and
/etc/group are files of the test. Only its settings folder, which it derives from
`sys.base_prefix`, is set from outside, lest it write into this Python. Clients stay outside
and open the socket under `socket`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil

from tests.support.fakejetson import boards
from tests.support.parts import missing_part

_START_S = 20.0
_UNDERNEATH = """
set -e
mount --bind "$1/sys" /sys
mount --bind "$1/group" /etc/group
[ -z "$2" ] || mount --bind "$1/version.py" "$2"
mount --bind "$1/run" /run
shift 2
exec "$@"
"""
_SERVICE = (
    "import runpy, sys; sys.base_prefix = '/run'; sys.argv = ['jtop', '--force'];"
    "runpy.run_module('jtop', run_name='__main__', alter_sys=True)"
)


class FakeJetson:
    """A board and its jtop service.

    Attributes:
        rails: By name, to be set.
        socket: Where the service listens, as seen from outside.

    Args:
        version: What the service says its version is; empty for what it is.
    """

    def __init__(self, directory: Path, board: str, version: str = "") -> None:
        self._directory = directory
        self.rails = boards.build(directory, board)
        boards.complete(directory)
        run = directory / "run"
        run.mkdir()
        self.socket = str(run / "jtop.sock")
        (directory / "group").write_text("root:x:0:\njtop:x:0:\n")
        self._log = directory / "service.log"
        self._covered = self._other_version(version) if version else ""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> FakeJetson:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start the service and wait until it says that it is ready."""
        self._log.write_bytes(b"")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_namespace(), "sh", "-c", _UNDERNEATH, "sh", str(self._directory),
                 self._covered, sys.executable, "-c", _SERVICE],
                env={**os.environ, "JTOP_SERVICE": "True", "PYTHONDONTWRITEBYTECODE": "1",
                     "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _START_S
        while b"service ready" not in self._log.read_bytes():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        """End all its processes as an out-of-memory kill would; the socket's file stays."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._signal(signal.SIGKILL)
            self._process.wait()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Let it hang altogether: it doesn't even answer who connects."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def stop_reading(self) -> None:
        """Let the process hang that reads the sensors, as a stuck bus does; others answer."""
        assert self._process is not None
        children = psutil.Process(self._process.pid).children()
        max(children, key=lambda child: child.pid).suspend()  # the last that it starts

    def cpu_s(self) -> float:
        """Return the CPU time that all its processes have used so far."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            if self._process is not None and int(fields[3]) == self._process.pid:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def _other_version(self, version: str) -> str:
        """Put the package's first file aside with another version in it; return its path."""
        spec = find_spec("jtop")
        assert spec is not None
        assert spec.origin is not None
        lines = Path(spec.origin).read_text().splitlines()
        lines = [f'__version__ = "{version}"' if x.startswith("__version__") else x for x in lines]
        (self._directory / "version.py").write_text("\n".join(lines) + "\n")
        return spec.origin


def require_namespace() -> None:
    """End the test with the reason where the service can't run on a made-up /sys."""
    if find_spec("jtop") is None:
        missing_part("jetson-stats", "pip install 'quantd[test]'")
    for program in ("unshare", "mount", "swapon"):
        if shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
            missing_part(program, "apt install util-linux mount")
    tried = subprocess.run(
        [*_namespace(), "mount", "--bind", "/tmp", "/sys"], capture_output=True, text=True
    )
    if tried.returncode:
        missing_part("mount namespace", tried.stderr.strip() + "; run as root")


def _namespace() -> list[str]:
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", "--mount", "--propagation", "private", *user]
