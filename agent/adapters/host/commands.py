"""Runs commands, the user's for reload and health among them: argv lists, bounded in time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

from agent.core.errors import JobError
from agent.core.release.recovery import CommandResult

_OUTPUT_BYTES = 4096
_POLL_S = 0.1
_TERM_GRACE_S = 3.0
_TERM_POLL_S = 0.02
_DRAIN_S = 1.0  # to read what an ended command left in the pipe


def run_command(
    argv: Sequence[str],
    timeout_s: float,
    environment: Mapping[str, str],
    cancelled: threading.Event,
) -> CommandResult:
    """Run argv without a shell and return how it ended; a failure of the command is not raised.

    The command has ended when its own process has: an application that it started in the
    background may keep running. At the timeout it is killed with all its children.

    Args:
        argv: The command.
        timeout_s: Its limit, s.
        environment: Variables beside those of this process.
        cancelled: Set from outside to end it, with all its children.

    Raises:
        JobError: "canceled".
    """
    if cancelled.is_set():
        raise _canceled(argv)
    try:
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    except OSError as e:
        return CommandResult(argv=tuple(argv), status=127, output=e.strerror or str(e))
    tail = bytearray()
    assert child.stdout is not None  # noqa: S101 - PIPE was asked for
    reader = threading.Thread(
        target=_keep_tail, args=(child.stdout, tail), name="command", daemon=True
    )
    reader.start()
    try:
        status = _ended(child, time.monotonic() + timeout_s, cancelled)
        if status is None and cancelled.is_set():
            _terminate(child)
            raise _canceled(argv)
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    reader.join(_DRAIN_S)
    return CommandResult(
        argv=tuple(argv), status=status, output=bytes(tail).decode("utf-8", "replace")
    )


def command_output(*command: str, timeout_s: float = 10.0) -> str:
    """Return what a command prints, "" if it is not there, fails to start or takes too long."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _ended(
    child: subprocess.Popen[bytes], until_s: float, cancelled: threading.Event
) -> int | None:
    """Return the exit status, None once it is late or cancelled."""
    while (left_s := until_s - time.monotonic()) > 0 and not cancelled.is_set():
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(min(left_s, _POLL_S))
    return None


def _terminate(child: subprocess.Popen[bytes]) -> None:
    """Ask a command and its children to end, and wait for it a while.

    It is not reaped: its id stays its own until its children are killed too.
    """
    os.killpg(child.pid, signal.SIGTERM)
    until_s = time.monotonic() + _TERM_GRACE_S
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while time.monotonic() < until_s and os.waitid(os.P_PID, child.pid, ended) is None:
        time.sleep(_TERM_POLL_S)


def _canceled(argv: Sequence[str]) -> JobError:
    return JobError(f"canceled: `{' '.join(argv)}`", code="canceled")


def _keep_tail(stream: IO[bytes], tail: bytearray) -> None:
    """Read until all writers have closed the stream, and keep the last bytes."""
    with stream:
        while block := os.read(stream.fileno(), _OUTPUT_BYTES):
            tail += block
            del tail[:-_OUTPUT_BYTES]
