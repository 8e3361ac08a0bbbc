"""A small file system of its own, to be filled."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.parts import missing_part

_SIZE_MB = 24


class Disk:
    """A mounted file system."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._filler = place / "filler"

    def fill(self) -> None:
        with self._filler.open("ab", buffering=0) as out:
            try:
                while True:
                    out.write(bytes(1 << 16))
            except OSError:
                pass
        assert self.free_bytes() < 4096

    def clear(self) -> None:
        self._filler.unlink()

    def free_bytes(self) -> int:
        found = os.statvfs(self.place)
        return found.f_bavail * found.f_bsize


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Disk]:
    """Mount one at a folder that does not exist yet; skip the test where that is not allowed."""
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={_SIZE_MB}m", "tmpfs", str(place)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        missing_part("a small file system", "mounting a tmpfs needs root")
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
