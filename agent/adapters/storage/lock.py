"""The lock of a storage directory: one process at a time measures or switches releases there."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from agent.core.errors import JobError, StoreError
from agent.disk import disk_errors, make_folder

_FILE = "lock"
_DAEMON = "daemon.lock"
_POLL_S = 0.2
_LOG = logging.getLogger(__name__)


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
    with _named(_acquired(Path(root, _FILE), cancelled, waiting, wait=wait), holder):
        yield


@contextlib.contextmanager
def sole_daemon(root: str, holder: Holder) -> Iterator[None]:
    """Be the only daemon of a storage directory: two would do each other's commands again.

    Where the disk does not allow a lock now, the daemon starts without one and waits for the disk.

    Raises:
        StoreError: "locked" if there is another.
    """
    file = Path(root, _DAEMON)
    try:
        handle = _try(file)
    except StoreError as error:
        _LOG.warning("daemon_not_locked code=%s %s", error.code, error.message)
        yield
        return
    if handle is None:
        raise StoreError(
            f"{root} has a daemon already: {_holder(file)}",
            code="locked",
            hint="stop that one (`systemctl stop quantd`), or set another storage.dir",
        )
    with _named(handle, holder):
        yield


@contextlib.contextmanager
def _named(handle: int, holder: Holder) -> Iterator[None]:
    """Write the holder into a locked file, and close it at the end."""
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
    file: Path, cancelled: threading.Event, waiting: Callable[[str], None], *, wait: bool
) -> int:
    named = ""
    while True:
        handle = _try(file)
        if handle is not None:
            return handle
        by = _holder(file)
        if not wait:
            raise StoreError(
                f"{file.parent} is in use by {by}",
                code="locked",
                hint="only one process at a time measures or switches; without --no-wait this one "
                "waits for it",
            )
        if by != named:
            waiting(by)
            named = by
        if cancelled.wait(_POLL_S):
            raise JobError(f"canceled while waiting for {by}", code="canceled")


def _try(file: Path) -> int | None:
    """Return the open and locked file, None if another process has it."""
    root = file.parent
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


def _holder(file: Path) -> str:
    try:
        return str(msgspec.json.decode(file.read_bytes(), type=Holder))
    except (OSError, msgspec.MsgspecError):
        return "another process"
