"""Heavy work in child processes: `python -m agent job SPEC`, JSON in, JSON lines out.

A child takes its memory with it when it goes, may crash or be killed for memory without
taking the daemon along, and can be cancelled: SIGTERM, then SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from agent.core.errors import JobError, QuantdError, error_kinds
from agent.disk import disk_errors
from agent.memory import JobMemory, default_reserve, memory_hint
from agent.ports import Progress

RecordT = TypeVar("RecordT")
_TERM_GRACE_S = 2.0
_LAST_WORDS_S = 1.0  # for what a child that is gone has left in the pipe
_LINE_LIMIT_BYTES = 64 << 20  # the longest is a report page with its pictures, some MB
_SHOWN_BYTES = 80
_BLOCK_BYTES = 1 << 20  # a pipe holds no more: 16 pages, of 64 KiB on some kernels for ARM
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
        with _folder() as folder:
            path = folder / "spec.json"
            with disk_errors(folder):
                path.write_bytes(msgspec.json.encode({"kind": kind, **spec}))
            child = _start(kind, path)
            try:
                raw = _follow(child, kind, progress, cancelled, timeout_s, self._reserve_bytes)
            finally:
                _end(child)
        try:
            return msgspec.json.decode(raw, type=result)
        except msgspec.MsgspecError as e:
            raise JobError(f"{kind}: its result can't be read: {e}", code="died") from e


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Yield a folder for the spec and the child's temporary files, which it may not live to remove.

    Raises:
        StoreError: if there is no room for it.
    """
    with disk_errors(Path(os.environ.get("TMPDIR", "/tmp"))):  # noqa: S108 - only named
        made = tempfile.TemporaryDirectory(prefix="quantd-job-", ignore_cleanup_errors=True)
    with made as folder:
        yield Path(folder)


def _start(kind: str, spec: Path) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "agent", "job", str(spec)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(spec.parent)},
            start_new_session=True,
        )
    except OSError as e:
        raise JobError(f"{kind}: it can't be started: {e}", code="died") from e


def _follow(
    child: subprocess.Popen[bytes],
    kind: str,
    progress: Progress,
    cancelled: threading.Event,
    timeout_s: float,
    reserve_bytes: int,
) -> msgspec.Raw:
    """Pass progress on until the child delivers its result, fails, or has to be ended."""
    assert child.stdout is not None  # noqa: S101 - PIPE was asked for
    output = _Output(child.stdout, kind)
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
        line = _next(output, child)
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


def _next(output: _Output, child: subprocess.Popen[bytes]) -> bytes | None:
    """Return the child's next line, nothing if it is silent, None if it will say no more."""
    gone = child.poll() is not None  # though something it started may hold its output open
    line = output.line(_LAST_WORDS_S if gone else 0.1)
    return None if gone and not line else line


class _Output:
    """A child's output, line by line. What is not asked for waits in the pipe, and so the child.

    Args:
        stream: The reading end of its pipe.
        kind: Of its job, for the error.
    """

    def __init__(self, stream: IO[bytes], kind: str) -> None:
        self._handle = stream.fileno()
        self._kind = kind
        self._readable = select.poll()
        self._readable.register(self._handle, select.POLLIN)
        self._lines: deque[bytes] = deque()
        self._begun = bytearray()

    def line(self, timeout_s: float) -> bytes | None:
        """Return the next line, nothing if none is complete in time, None behind the last.

        What ends without a line break is no line: the child was killed while it wrote, which
        its status tells.

        Raises:
            JobError: "died" if a line has no end.
        """
        if not self._lines and self._readable.poll(timeout_s * 1e3):
            block = os.read(self._handle, _BLOCK_BYTES)
            if not block:
                return None
            first, *more = block.split(b"\n")
            self._begun += first
            for begun in more:
                self._lines.append(bytes(self._begun))
                self._begun = bytearray(begun)
            if len(self._begun) > _LINE_LIMIT_BYTES:
                raise _no_message(self._kind, bytes(self._begun[:_SHOWN_BYTES]))
        return self._lines.popleft() if self._lines else b""


def _decoded(line: bytes, kind: str) -> _Line:
    try:
        return msgspec.json.decode(line, type=_Line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise _no_message(kind, line[:_SHOWN_BYTES]) from e


def _no_message(kind: str, begin: bytes) -> JobError:
    return JobError(
        f"{kind}: it said what is no message: {begin!r}", code="died", hint=_ITS_MESSAGES
    )


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
    if child.stdout is not None:
        child.stdout.close()


def _death(status: int, peak_mb: float) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name} at {peak_mb:.0f} MB resident"
    return f"ended with status {status} and no result"


def _death_hint(kind: str, status: int) -> str:
    if status == -signal.SIGKILL:
        return f"most likely out of memory: {memory_hint(kind)}"
    return _ITS_MESSAGES
