"""Processes that do one thing and print one JSON object as their last line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.quality.material import REPOSITORY

_PATIENCE_S = 1800
_TAIL = 300  # characters of what a process that failed said last


def run(argv: Sequence[str | Path], log: Path | None = None) -> dict[str, Any]:
    """Return what a process found, or {"failed": reason}."""
    try:
        done = subprocess.run(
            [str(one) for one in argv],
            cwd=REPOSITORY,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no end after {_PATIENCE_S} s"}
    if log is not None:
        log.write_text(done.stdout + done.stderr)
    if done.returncode:
        said = done.stderr.strip()[-_TAIL:].replace("\n", " ")
        why = "killed, probably for memory" if done.returncode == -9 else f"exit {done.returncode}"
        return {"failed": f"{why}: {said}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def step(name: str, folder: Path, *rest: str) -> dict[str, Any]:
    """Run one of `steps` in a process of its own."""
    argv = [sys.executable, "-m", "tests.benchmarks.quality.steps", name, folder, *rest]
    return run(argv)
