"""Files that exist and answer EAGAIN, as a thermal zone of an absent unit does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def not_now(path: Path) -> Iterator[None]:
    """Let a read of the file answer EAGAIN (by the kernel: a pipe with a writer and no data)."""
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    try:
        yield
    finally:
        os.close(writer)
        path.unlink()
        if before is not None:
            path.write_bytes(before)
