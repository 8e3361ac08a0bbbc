"""The demo's application: the Python example, which serves the camera with the active release."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

from agent.core.errors import JobError
from agent.demo.broker import running

_LOAD_S = 30.0
_SERVE_S = 3.0
_POLL_S = 0.1


class Application:
    """A process that follows `current`; it is ended where the block is left.

    Args:
        log: What it prints.
        current: The link to the active release.
        camera: URI of the camera.
    """

    def __init__(self, log: Path, current: Path, camera: str) -> None:
        self._log = log
        self._arguments = (str(current), camera)
        self._process: subprocess.Popen[bytes] | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Application:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start it, unless it runs."""
        if self._process is None:
            program = sys.executable, "-m", "agent.client.examples.camera"
            self._process = self._stack.enter_context(
                running(self._log, *program, *self._arguments)
            )

    def wait(self, release: str) -> None:
        """Wait until it serves a release.

        Raises:
            JobError: if it does not load the release.
        """
        deadline = time.monotonic() + _LOAD_S
        while not self._lines(release):
            if time.monotonic() > deadline or (self._process and self._process.poll() is not None):
                raise JobError(
                    f"the demo's application did not load release {release}",
                    hint=f"see {self._log}",
                )
            time.sleep(_POLL_S)

    def until_served(self, release: str) -> list[str]:
        """Wait until it has served a release for some seconds, and end it.

        Returns:
            The lines that it printed first and last about the release.

        Raises:
            JobError: see `wait`.
        """
        self.start()
        self.wait(release)
        time.sleep(_SERVE_S)
        self._stack.close()
        begun, *figures = self._lines(release)
        return [begun, *figures[-1:]]

    def _lines(self, release: str) -> list[str]:
        """Return what it printed about a release."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return [line for line in lines if f"release {release}" in line]
