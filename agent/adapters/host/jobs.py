"""Heavy work in child processes: `python -m agent job SPEC`, with the JSON of `agent.wire.jobs`.

A child's memory is free again when it ends; the daemon survives its crash, or its end for lack
of memory; and it can be cancelled: SIGTERM, then SIGKILL. It ends with this process, and the
next job removes what it then left in the temporary folder.
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
from pathlib import Path
from typing import IO, Any

import msgspec

from agent.core.errors import JobError, QuantdError, error_kinds
from agent.disk import disk_errors, remove_abandoned, work_folder
from agent.memory import JobMemory, default_reserve
from agent.ports import Progress, RecordT
from agent.ports.jobs import JobSpec
from agent.wire.job_lines import Line, Progressed, Raised, Returned

_FOLDER = "quantd-job-"  # for the spec and the child's temporary files
_TERM_GRACE_S = 2.0
_LAST_LINES_S = 1.0  # for the lines in the pipe of a child that has ended
_LINE_LIMIT_BYTES = 64 << 20  # the longest is a report page with its pictures, some MB
_SHOWN_BYTES = 80
_BLOCK_BYTES = 1 << 20  # a pipe holds no more: 16 pages, of 64 KiB on some kernels for ARM
_SEE_STDERR = "see its messages on stderr"
ONE_BLAS_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Of a job's environment: the threads of NumPy's libraries spin between the many tiny products of
a quantization, which took twice the CPU of one thread and more time."""


class SubprocessJobs:
    """The Jobs port: one child process per job.

    Args:
        reserve_bytes: Memory (swap included) that stays free for the application; a job that
            leaves less is ended before the kernel ends a process. None: 2 % of all, at least
            64 MB.
    """

    def __init__(self, reserve_bytes: int | None = None) -> None:
        self._reserve_bytes = default_reserve() if reserve_bytes is None else reserve_bytes

    def run(
        self, spec: JobSpec[RecordT], *, progress: Progress, cancelled: threading.Event
    ) -> RecordT:
        """See `ports.Jobs`."""
        temp = Path(tempfile.gettempdir())
        remove_abandoned(temp, _FOLDER)
        with work_folder(temp, _FOLDER) as folder:
            path = folder / "spec.json"
            with disk_errors(folder):
                path.write_bytes(msgspec.json.encode(spec))
            child = _start(spec.kind, path)
            try:
                raw = _follow(child, spec, progress, cancelled, self._reserve_bytes)
            finally:
                _end(child)
        try:
            return msgspec.json.decode(raw, type=spec.result())
        except msgspec.MsgspecError as e:
            raise JobError(f"{spec.kind}: its result can't be read: {e}", code="died") from e


def _start(kind: str, spec: Path) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "agent", "job", str(spec), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**ONE_BLAS_THREAD, **os.environ, "TMPDIR": str(spec.parent)},
            start_new_session=True,
        )
    except OSError as e:
        raise JobError(f"{kind}: it can't be started: {e}", code="died") from e


def _follow(
    child: subprocess.Popen[bytes],
    spec: JobSpec[Any],
    progress: Progress,
    cancelled: threading.Event,
    reserve_bytes: int,
) -> msgspec.Raw:
    """Pass progress on until the child returns its result, fails, or has to be ended."""
    assert child.stdout is not None  # noqa: S101 - PIPE was asked for
    kind = spec.kind
    output = _Output(child.stdout, kind)
    memory = JobMemory(child.pid, spec, reserve_bytes)
    deadline = time.monotonic() + spec.timeout_s
    outcome: Returned | Raised | None = None
    while True:
        if cancelled.is_set():
            raise JobError(f"{kind}: canceled", code="canceled")
        if time.monotonic() > deadline:
            late = "no progress for" if spec.ended_by_silence else "not finished within"
            raise JobError(
                f"{kind}: {late} {spec.timeout_s:g} s, ended",
                code="timed_out",
                hint=spec.slow_hint,
            )
        memory.watch()
        body = _next(output, child)
        if body is None:
            break
        if not body:
            continue
        line = _decoded(body, kind)
        if isinstance(line, Progressed):
            progress(line.done, line.total, line.note, line.candidate)
            if spec.ended_by_silence:
                deadline = time.monotonic() + spec.timeout_s
        else:
            outcome = line
    status = child.wait()
    if isinstance(outcome, Returned):
        return outcome.result
    if outcome is not None:
        error = error_kinds().get(outcome.error, QuantdError)
        raise error(outcome.message, code=outcome.code, hint=outcome.hint)
    raise _died(spec, status, memory.peak_mb)


def _died(spec: JobSpec[Any], status: int, peak_mb: float) -> JobError:
    """Return the error of a child that ended without a result or an error."""
    if status < 0:
        end = f"killed by {signal.Signals(-status).name} at {peak_mb:.0f} MB resident"
    else:
        end = f"ended with status {status} and no result"
    out_of_memory = status == -signal.SIGKILL
    hint = f"most likely out of memory: {spec.memory_hint}" if out_of_memory else _SEE_STDERR
    return JobError(f"{spec.kind}: {end}", code="died", hint=hint)


def _next(output: _Output, child: subprocess.Popen[bytes]) -> bytes | None:
    """Return the child's next line; b"" if there is none yet, None if there will be no more."""
    ended = child.poll() is not None  # though a process that it started may keep its output open
    line = output.line(_LAST_LINES_S if ended else 0.1)
    return None if ended and not line else line


class _Output:
    """A child's output, line by line; lines not yet asked for stay in the pipe and block the child.

    Args:
        stream: The reading end of its pipe.
        kind: Of its job, for errors.
    """

    def __init__(self, stream: IO[bytes], kind: str) -> None:
        self._handle = stream.fileno()
        self._kind = kind
        self._readable = select.poll()
        self._readable.register(self._handle, select.POLLIN)
        self._lines: deque[bytes] = deque()
        self._begun = bytearray()

    def line(self, timeout_s: float) -> bytes | None:
        """Return the next line, b"" if none is complete in time, None after the last.

        Bytes without a line break at the end are dropped: the child was killed while it wrote.

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
                raise _invalid(self._kind, bytes(self._begun[:_SHOWN_BYTES]))
        return self._lines.popleft() if self._lines else b""


def _decoded(line: bytes, kind: str) -> Line:
    try:
        found: Line = msgspec.json.decode(line, type=Line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise _invalid(kind, line[:_SHOWN_BYTES]) from e
    return found


def _invalid(kind: str, begin: bytes) -> JobError:
    return JobError(
        f"{kind}: sent an invalid protocol line: {begin!r}", code="died", hint=_SEE_STDERR
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
