"""A PostgreSQL of one's own: start, kill, start again on the same port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from tests.support.broker import free_port
from tests.support.parts import missing_part

_FOLDERS = [str(one) for one in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
_USER = "nobody"  # the server refuses to run as root


class Postgres:
    """A server on 127.0.0.1, in a folder; durable unless for tests that lose nothing by it."""

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        path = os.pathsep.join([*_FOLDERS, os.environ["PATH"]])
        initdb, self._server = (
            shutil.which("initdb", path=path),
            shutil.which("postgres", path=path),
        )
        if initdb is None or self._server is None:
            missing_part("PostgreSQL", "apt install postgresql")
        self.port = free_port()
        self.address = f"postgresql://fleet@127.0.0.1:{self.port}/postgres"
        # not in pytest's folders, which its own user alone may enter
        self._folder = tempfile.TemporaryDirectory(prefix="quantd-postgres-")
        self._data = Path(self._folder.name)
        self._log = directory / "postgres.log"
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            shutil.chown(self._data, _USER)
        self._run([initdb, "-D", str(self._data), "-U", "fleet", "-A", "trust", "-N", "-E", "UTF8"])

    def start(self) -> None:
        options = [f"-p{self.port}", f"-k{self._data}", "-hlocalhost", "-cshared_buffers=16MB"]
        if not self._durable:
            options.append("-F")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_user(), self._server, "-D", str(self._data), *options],
                stdout=log,
                stderr=log,
                cwd="/",
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                psycopg.connect(self.address, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, self._log.read_text()
                time.sleep(0.05)
        raise AssertionError(self._log.read_text())

    def kill(self) -> None:
        """End all its processes as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGINT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            [*_as_user(), *command], capture_output=True, text=True, cwd="/", check=False
        )
        assert done.returncode == 0, done.stderr

    def __enter__(self) -> Postgres:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()


def _as_user() -> list[str]:
    """Return what a command must begin with to run as another user than root, as the same process."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={_USER}", "--clear-groups", "--regid=nogroup"]
