"""Processes that do one thing and print one JSON object as their last line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.quality.material import REPOSITORY, UnavailableError
from tests.benchmarks.quality.steps import children_cpu_s

_PATIENCE_S = 1800
_TAIL = 300  # characters of the last output of a process that failed
_QUALITY = "tests.benchmarks.quality"


def run(
    argv: Sequence[str | Path], log: Path | None = None, folder: Path = REPOSITORY
) -> dict[str, Any]:
    """Return what a process found, with its wall and CPU seconds.

    If it ended without a result: {"failed": reason, "crashed": True}.

    Args:
        argv: The command.
        log: Where its output is kept.
        folder: It runs in, from which Python imports.
    """
    begin, cpu_s = time.monotonic(), children_cpu_s()
    try:
        done = subprocess.run(
            [str(one) for one in argv],
            cwd=folder,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no end after {_PATIENCE_S} s", "crashed": True}
    if log is not None:
        log.write_text(done.stdout + done.stderr)
    if done.returncode:
        last = done.stderr.strip()[-_TAIL:].replace("\n", " ")
        why = "killed, probably for memory" if done.returncode == -9 else f"exit {done.returncode}"
        return {"failed": f"{why}: {last}", "crashed": True}
    return {
        **json.loads(done.stdout.strip().splitlines()[-1]),
        "wall_s": round(time.monotonic() - begin, 2),
        "cpu_s": round(children_cpu_s() - cpu_s, 2),
    }


def module(name: str, *rest: str | Path) -> dict[str, Any]:
    """Run a module of this folder in a process of its own."""
    return run([sys.executable, "-m", f"{_QUALITY}.{name}", *rest])


def required(name: str, *rest: str | Path) -> dict[str, Any]:
    """Run a module without which a part of the benchmark can't be measured.

    Raises:
        UnavailableError: if it fails.
    """
    found = module(name, *rest)
    if "failed" in found:
        raise UnavailableError(f"{name}: {found['failed']}")
    return found


def step(name: str, folder: Path, *rest: str) -> dict[str, Any]:
    """Run one of `steps` in a process of its own."""
    return module("steps", name, folder, *rest)


def quantized(folder: Path, which: str) -> dict[str, dict[str, Any]]:
    """Return the graphs of a candidate or of all in a precision, by id, or why there are none."""
    found = step("quantize", folder, which)
    return {which: {"failed": found["failed"]}} if "failed" in found else found["made"]
