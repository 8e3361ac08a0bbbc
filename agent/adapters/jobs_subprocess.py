"""Heavy work in child processes: `python -m agent job SPEC`, JSON in, JSON lines out.

A child takes its memory with it when it goes, may crash or be killed for memory without
taking the daemon along, and can be cancelled: SIGTERM, then SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from agent.core.errors import JobError, QuantdError, error_kinds
from agent.disk import disk_errors
from agent.live.memory import JobMemory, default_reserve, memory_hint
from agent.ports import Progress

RecordT = TypeVar("RecordT")
_TERM_GRACE_S = 2.0
_LAST_WORDS_S = 1.0  # for what a child that is gone has left in the pipe
_ITS_MESSAGES = "its messages on stderr say more"
_BY_SILENCE = frozenset({"measure"})
"""Kinds whose time limit begins anew with each word of progress: how long measuring takes depends
on the engines, and it tells each second that it goes on."""
_SLOW_HINT = {"build": "lower runtime.builder_level, or give the machine more idle cores"}


class _Error(msgspec.Struct):
    kind: str
    code: str
    message: str
    hint: str = ""


class _Line(msgspec.Struct):
    """One line of a child's output: exactly one of the fields is set."""

    progress: tuple[int, int, str] | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: _Error | None = None


class SubprocessJobs:
    """The Jobs port: one child process per job.

    Args:
        reserve_bytes: Memory (swap included) that stays free for the application; a job that
            leaves less is ended before the kernel ends something. None: 2 % of all, at least
            64 MB.
    """

    def __init__(self, reserve_bytes: int | None = None) -> None:
        self._reserve_bytes = default_reserve() if reserve_bytes is None else reserve_bytes

    def run(
        self,
        kind: str,
        spec: Mapping[str, object],
        result: type[RecordT],
        *,
        progress: Progress,
        cancelled: threading.Event,
        timeout_s: float,
    ) -> RecordT:
        """Run the job and return its result record; see `ports.Jobs`."""
        with tempfile.TemporaryDirectory(prefix="quantd-job-") as folder:
            path = Path(folder, "spec.json")
            with disk_errors(path.parent):
                path.write_bytes(msgspec.json.encode({"kind": kind, **spec}))
            child = subprocess.Popen(
                [sys.executable, "-m", "agent", "job", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            try:
                raw = _follow(child, kind, progress, cancelled, timeout_s, self._reserve_bytes)
            finally:
                _end(child)
        try:
            return msgspec.json.decode(raw, type=result)
        except msgspec.MsgspecError as e:
            raise JobError(f"{kind}: its result can't be read: {e}", code="died") from e


def _follow(
    child: subprocess.Popen[bytes],
    kind: str,
    progress: Progress,
    cancelled: threading.Event,
    timeout_s: float,
    reserve_bytes: int,
) -> msgspec.Raw:
    """Pass progress on until the child delivers its result, fails, or has to be ended."""
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    assert child.stdout is not None  # noqa: S101 - PIPE was asked for
    reader = threading.Thread(
        target=_read, args=(child.stdout, lines), name=f"job-{kind}", daemon=True
    )
    reader.start()
    memory = JobMemory(child.pid, kind, reserve_bytes)
    deadline = time.monotonic() + timeout_s
    outcome: _Line | None = None
    while True:
        if cancelled.is_set():
            raise JobError(f"{kind}: canceled", code="canceled")
        if time.monotonic() > deadline:
            late = "told nothing for" if kind in _BY_SILENCE else "not finished within"
            raise JobError(
                f"{kind}: {late} {timeout_s:g} s, ended",
                code="timed_out",
                hint=_SLOW_HINT.get(kind, ""),
            )
        memory.watch()
        line = _next(lines, child)
        if line is None:
            break
        if not line:
            continue
        message = _decoded(line, kind)
        if message.progress is not None:
            progress(*message.progress)
            if kind in _BY_SILENCE:
                deadline = time.monotonic() + timeout_s
        else:
            outcome = message
    status = child.wait()
    if outcome is not None and outcome.result:
        return outcome.result
    if outcome is not None and outcome.error is not None:
        error = outcome.error
        raise error_kinds().get(error.kind, QuantdError)(
            error.message, code=error.code, hint=error.hint
        )
    raise JobError(
        f"{kind}: {_death(status, memory.peak_mb)}", code="died", hint=_death_hint(kind, status)
    )


def _next(lines: queue.SimpleQueue[bytes | None], child: subprocess.Popen[bytes]) -> bytes | None:
    """Return the child's next line, nothing if it is silent, None if it will say no more."""
    gone = child.poll() is not None  # though something it started may hold its output open
    try:
        return lines.get(timeout=_LAST_WORDS_S if gone else 0.1)
    except queue.Empty:
        return None if gone else b""


def _read(stream: IO[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    with stream:  # closed by nobody else: that would wait for this read, whatever the signal
        for line in stream:
            if line.endswith(b"\n"):  # else it was killed while it wrote, which its status tells
                lines.put(line)
    lines.put(None)


def _decoded(line: bytes, kind: str) -> _Line:
    try:
        return msgspec.json.decode(line, type=_Line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise JobError(
            f"{kind}: it said what is no message: {line[:80]!r}",
            code="died",
            hint=_ITS_MESSAGES,
        ) from e


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child and everything it started: SIGTERM, a moment, SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_TERM_GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _death(status: int, peak_mb: float) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name} at {peak_mb:.0f} MB resident"
    return f"ended with status {status} and no result"


def _death_hint(kind: str, status: int) -> str:
    if status == -signal.SIGKILL:
        return f"most likely out of memory: {memory_hint(kind)}"
    return _ITS_MESSAGES
