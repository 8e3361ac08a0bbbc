"""Atomic writes, work folders, and disk errors that name the free space."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.core.errors import StoreError

_BLOCK_BYTES = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = {errno.ENOSPC, errno.EDQUOT}


READABLE = 0o644
"""Mode of what applications and other users may read."""
PRIVATE = 0o600
"""Mode of all else: pictures, reports, what is in the database."""


def write_atomically(path: str | Path, body: bytes, *, mode: int = PRIVATE) -> None:
    """Write a file by temporary file, fsync, rename and fsync of the folder.

    Args:
        path: Of the file.
        body: Its content.
        mode: Its permissions, whatever the umask.

    Raises:
        StoreError: "disk_full" or "store"; the earlier file, if any, is untouched.
    """
    target = Path(path)
    with disk_errors(target.parent):
        make_folder(target.parent)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        temp = Path(name)
        try:
            with os.fdopen(handle, "wb") as out:
                os.fchmod(handle, mode)
                out.write(body)
                out.flush()
                os.fsync(out.fileno())
            temp.rename(target)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise
        fsync(target.parent)


def make_folder(path: Path) -> None:
    """Create a folder and those above it, which others may enter whatever the umask.

    Folders that exist stay as they are: their owner may have closed them.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        path.chmod(0o755)


def close_to_others(folder: Path) -> None:
    """Take from others what they may do with the files below a folder, as far as possible."""
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found = os.lstat(os.path.join(where, name))  # noqa: PTH118 - thousands of frames
                if stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
                    os.chmod(os.path.join(where, name), PRIVATE)  # noqa: PTH101, PTH118


@contextlib.contextmanager
def work_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new folder and remove it afterwards, unless it was renamed.

    It is locked while in use, so that `remove_abandoned` can detect folders of killed processes.
    Process ids are not enough: they repeat after a boot, and in a container the daemon always has
    the same one.

    Raises:
        StoreError: if the folder can't be created.
    """
    with disk_errors(parent):
        folder, handle = _locked_folder(parent, prefix)
    try:
        yield folder
    finally:
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


def _locked_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    """Create a folder and lock it; again if another process took it for abandoned before that."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(folder, _FOLDER)
            with contextlib.suppress(OSError):  # no locks on this file system: nothing is removed
                fcntl.flock(handle, fcntl.LOCK_EX)
            if folder.exists():
                return folder, handle
            os.close(handle)


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove the work folders that no process uses."""
    for folder in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # of another user, or no folder: that is left alone
            handle = os.open(folder, _FOLDER)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


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
        if e.errno in _FULL:
            raise _full(where) from e
        raise StoreError(f"{where}: {e.strerror or e} ({_free_mb(where):.1f} MB free)") from e


@contextlib.contextmanager
def full_disk(where: Path) -> Iterator[None]:
    """Turn the OSError of a full disk, and no other, into a StoreError."""
    try:
        yield
    except OSError as e:
        if e.errno not in _FULL:
            raise
        raise _full(where) from e


def read_now(path: Path) -> str:
    """Return the text of a small file, as of /proc or /sys, without waiting for it.

    Raises:
        OSError: if it can't be read now. On an Orin Nano the thermal zones of absent units answer
            EAGAIN, which `Path.read_text` makes a TypeError of (Python 3.10 to 3.13).
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        blocks = iter(lambda: os.read(handle, 1 << 16), b"")
        return b"".join(blocks).decode(errors="replace")
    finally:
        os.close(handle)


def text_of(path: Path) -> str:
    """Return a file's text without surrounding whitespace, "" if it can't be read now.

    A device tree ends its strings with a zero byte, which counts as whitespace.
    """
    try:
        return read_now(path).replace("\0", " ").strip()
    except OSError:
        return ""


def sha256_of(path: Path) -> str:
    """Return the hex digest of a file, however large it is."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found.update(block)
    return found.hexdigest()


def size_bytes(folder: Path) -> int:
    """Return the total size of the files below a folder, bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def has_room(folder: Path, size_bytes: int) -> bool:
    """Return whether a file of this size can be created; True if it can't be found out."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return True
    inodes = found.f_favail > 0 or not found.f_files  # some file systems have no fixed number
    return inodes and found.f_bavail * found.f_frsize >= size_bytes


def _full(where: Path) -> StoreError:
    return StoreError(
        f"{where}: the disk is full ({_free_mb(where):.1f} MB free)",
        code="disk_full",
        hint="free some space on this file system, or lower storage.max_mb",
    )


def _free_mb(where: Path) -> float:
    place = where
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free / 1e6
