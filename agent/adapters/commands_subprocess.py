"""Runs a user's reload and health commands: argv lists, bounded in time and output."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from agent.core.activation import CommandResult

_OUTPUT_BYTES = 4096


def run_command(
    argv: Sequence[str], timeout_s: float, environment: Mapping[str, str]
) -> CommandResult:
    """Run argv without a shell and return how it ended; never raises for what the command does."""
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            env={**os.environ, **environment},
            check=False,
        )
    except subprocess.TimeoutExpired as e:
        return CommandResult(argv=tuple(argv), status=None, output=_tail(e.stdout))
    except OSError as e:
        return CommandResult(argv=tuple(argv), status=127, output=e.strerror or str(e))
    return CommandResult(argv=tuple(argv), status=done.returncode, output=_tail(done.stdout))


def _tail(output: bytes | None) -> str:
    return (output or b"")[-_OUTPUT_BYTES:].decode("utf-8", "replace")
