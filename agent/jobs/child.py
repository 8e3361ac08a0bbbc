"""The child's side of a job: read the spec, run one stage, write JSON lines.

`python -m agent job SPEC` is started by `adapters/host/jobs.py`. Standard output is the
protocol, so whatever libraries print there is sent to standard error instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from agent.core.errors import QuantdError
from agent.disk import full_disk
from agent.jobs.kinds import KINDS, Job

_PR_SET_PDEATHSIG = 1
_NICE = {"intake": 10, "condition": 10, "statistics": 10, "quantize": 10, "build": 10, "capture": 5}
_ENDED_BY_THE_KERNEL = {"build"}
"""Kinds that SIGTERM ends at once: TensorRT calls back into Python from its own code, swallows
the SystemExit of a handler there and builds on. They leave nothing behind but their folder."""


def main(path: str) -> int:
    """Run the job that a spec file describes; return the exit status."""
    lines = _claim_stdout()
    _prepare_process()

    def say(**line: object) -> None:
        lines.write(msgspec.json.encode(line) + b"\n")
        lines.flush()

    def progress(done: int, total: int, note: str) -> None:
        say(progress=(done, total, note))

    try:
        spec = msgspec.json.decode(Path(path).read_bytes(), type=dict[str, Any])
        with contextlib.suppress(OSError):
            os.nice(_NICE.get(spec["kind"], 0))
        if spec["kind"] in _ENDED_BY_THE_KERNEL:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        where = spec.get("work") or spec["config"]["storage"]["dir"]
        with full_disk(Path(where)):
            result = KINDS[spec["kind"]](Job(spec, progress))
        say(result=result)
    except QuantdError as error:
        say(
            error={
                "kind": type(error).__name__,
                "code": error.code,
                "message": error.message,
                "hint": error.hint,
            }
        )
        return error.exit_code
    except MemoryError:
        say(error={"kind": "JobError", "code": "died", "message": f"{path}: out of memory"})
        return 1
    return 0


def _claim_stdout() -> Any:
    """Keep the real standard output for the protocol and point everyone else at stderr."""
    lines = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return lines


def _prepare_process() -> None:
    """Die with the parent, be the first to go when memory is short, end on SIGTERM cleanly."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
