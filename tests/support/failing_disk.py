"""A disk that fails at the n-th change: the power is cut, it is full, or it has become read-only.

Every change of a file system raises an audit event before it is made, whoever makes it, so nothing
is patched and no call is missed, but for what is written into a file that is open already.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from collections.abc import Iterator

_GROWING = frozenset({"os.link", "os.mkdir", "os.symlink"})
_CHANGING = _GROWING | {
    "os.chmod", "os.chown", "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.utime",
}  # fmt: skip
_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class PowerCut(BaseException):
    """Nothing more is done, not even what a `finally` wants to do."""


class FailingDisk:
    """Fails at a change of the thread that armed it, and at all that follow, until it is repaired.

    Args:
        how: "power", "full" (renaming and removing still work) or "read-only".
    """

    def __init__(self, how: str, after: int) -> None:
        self._how = how
        self._left = after
        self._thread = threading.get_ident()
        self.changes = 0

    @property
    def failed(self) -> bool:
        """Return whether a change failed."""
        return self._left < 0

    def step(self, *, grows: bool = True) -> None:
        """Count a change, which fails if it is due."""
        if threading.get_ident() != self._thread or (self._how == "full" and not grows):
            return
        self.changes += 1
        self._left -= 1
        if self._left < 0:
            if self._how == "power":
                raise PowerCut
            number = errno.ENOSPC if self._how == "full" else errno.EROFS
            raise OSError(number, os.strerror(number))


_disk: FailingDisk | None = None
_hooked = False


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _disk is None:
        return
    if event == "open":
        flags = arguments[2]
        if isinstance(flags, int) and flags & _TO_WRITE:
            _disk.step(grows=bool(flags & os.O_CREAT))
    elif event in _CHANGING:
        _disk.step(grows=event in _GROWING)


@contextlib.contextmanager
def failing(how: str, after: int) -> Iterator[FailingDisk]:
    """Let the change number `after` (from 0) fail within the block, and those after it."""
    global _disk, _hooked
    if not _hooked:
        sys.addaudithook(_audit)  # for ever: there is no way to remove one
        _hooked = True
    _disk = disk = FailingDisk(how, after)
    try:
        yield disk
    finally:
        _disk = None
