"""The lock of a storage directory: one process at a time measures or switches releases there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from agent.core.errors import JobError, StoreError
from agent.disk import disk_errors, make_folder

_FILE = "lock"
_POLL_S = 0.2


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The process that has the lock, as the file names it for others."""

    pid: int
    verb: str
    run_id: str
    since: str

    def __str__(self) -> str:
        """Return it in words."""
        run = f", run {self.run_id}" if self.run_id else ""
        return f"`{self.verb}` (process {self.pid}{run}, since {self.since})"


@contextlib.contextmanager
def locked(
    root: str,
    holder: Holder,
    *,
    cancelled: threading.Event,
    waiting: Callable[[str], None],
    wait: bool,
) -> Iterator[None]:
    """Have the lock of a storage directory; the kernel releases it if the process is killed.

    Child processes do not inherit it.

    Args:
        root: The storage directory, created if missing.
        holder: This process, for others that wait.
        cancelled: Set from outside to end the waiting.
        waiting: Called with the holder in words, for each one that is waited for.
        wait: False to raise instead of waiting.

    Raises:
        StoreError: "locked" if another has it and `wait` is False.
        JobError: "canceled".
    """
    handle = _acquired(Path(root), cancelled, waiting, wait=wait)
    try:
        with contextlib.suppress(OSError):  # it only informs, and the disk may be full
            os.ftruncate(handle, 0)
            os.pwrite(handle, msgspec.json.encode(holder), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
        os.close(handle)


def _acquired(
    root: Path, cancelled: threading.Event, waiting: Callable[[str], None], *, wait: bool
) -> int:
    named = ""
    while True:
        handle = _try(root)
        if handle is not None:
            return handle
        by = _holder(root)
        if not wait:
            raise StoreError(
                f"{root} is in use by {by}",
                code="locked",
                hint="only one process at a time measures or switches; without --no-wait this one "
                "waits for it",
            )
        if by != named:
            waiting(by)
            named = by
        if cancelled.wait(_POLL_S):
            raise JobError(f"canceled while waiting for {by}", code="canceled")


def _try(root: Path) -> int | None:
    """Return the open and locked file, None if another process has it."""
    file = root / _FILE
    with disk_errors(root):
        make_folder(root)
        # No link is followed: root would give away, and empty, whatever the folder's owner names.
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            owner = root.stat()
            if os.geteuid() == 0:  # or the daemon's user could not open what root made
                os.fchown(handle, owner.st_uid, owner.st_gid)
            _lock(handle, root)
            if os.fstat(handle).st_ino == file.stat().st_ino:
                return handle
        except (BlockingIOError, FileNotFoundError):  # in use, or removed meanwhile
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    return None


def _lock(handle: int, root: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        raise StoreError(
            f"{root}: files can't be locked on this file system ({error.strerror})",
            code="no_locks",
            hint="set storage.dir to a folder of a local file system",
        ) from error


def _holder(root: Path) -> str:
    try:
        return str(msgspec.json.decode((root / _FILE).read_bytes(), type=Holder))
    except (OSError, msgspec.MsgspecError):
        return "another process"
