"""Files that are on the disk complete or not at all, and errors that say how full it is."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.core.errors import StoreError

_FULL = {errno.ENOSPC, errno.EDQUOT}


def write_atomically(path: str | Path, body: bytes) -> None:
    """Write a file: temp in the same folder, fsync, rename, fsync of the folder.

    Raises:
        StoreError: "disk_full" or "store"; the earlier file, if any, is untouched.
    """
    target = Path(path)
    with disk_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        temp = Path(name)
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(body)
                out.flush()
                os.fsync(out.fileno())
            temp.chmod(0o644)
            temp.rename(target)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise
        fsync(target.parent)


def fsync(path: Path) -> None:
    """Flush a file or a directory to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turn an OSError into a StoreError that names the place and the space left there."""
    try:
        yield
    except OSError as e:
        place = where
        while not place.exists():
            place = place.parent
        free_mb = shutil.disk_usage(place).free / 1e6
        full = e.errno in _FULL
        raise StoreError(
            f"{where}: {e.strerror or e} ({free_mb:.0f} MB free)",
            code="disk_full" if full else "store",
            hint="free some space, or lower storage.max_mb" if full else "",
        ) from e
