"""The child's side of a job: read the spec, run one stage, write JSON lines.

`adapters/host/jobs.py` starts `python -m agent job SPEC PARENT` (see `parent`). Standard output carries the lines of
`agent.wire.jobs`, so what libraries print there goes to standard error instead.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from agent.core.errors import QuantdError
from agent.disk import full_disk
from agent.jobs.kinds import decode, run
from agent.packages import import_hint
from agent.wire.job_lines import Line, Progressed, Raised, Returned
from agent.wire.job_spec import RecordSpec


def main(path: str) -> int:
    """Run the job that a spec file describes; return the exit status."""
    lines = _claim_stdout()
    _prepare_process()

    def write(line: Line) -> None:
        lines.write(msgspec.json.encode(line) + b"\n")
        lines.flush()

    def progress(done: int, total: int, note: str, candidate: str = "") -> None:
        write(Progressed(done=done, total=total, note=note, candidate=candidate))

    try:
        spec = decode(Path(path).read_bytes())
        with contextlib.suppress(OSError):
            os.nice(spec.niceness)
        if spec.ended_by_kernel:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        folder = spec.work if isinstance(spec, RecordSpec) else spec.config.storage.dir
        with full_disk(Path(folder)):
            result = run(spec, progress)
        write(Returned(result=msgspec.Raw(msgspec.json.encode(result))))
    except QuantdError as error:
        write(
            Raised(
                error=type(error).__name__,
                code=error.code,
                message=error.message,
                hint=error.hint,
            )
        )
        return error.exit_code
    except ImportError as error:
        message = f"a library is missing: {error}"
        write(
            Raised(error="JobError", code="missing_part", message=message, hint=import_hint(error))
        )
        return 1
    except MemoryError:
        write(Raised(error="JobError", code="died", message=f"{path}: out of memory"))
        return 1
    return 0


def _claim_stdout() -> Any:
    """Return the real standard output; file descriptor 1 becomes standard error."""
    lines = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return lines


def _prepare_process() -> None:
    """Be the first that the kernel ends for memory, and end cleanly on SIGTERM."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
