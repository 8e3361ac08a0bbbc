"""Passwords as scrypt hashes, and how often they may be tried.

Source: RFC 7914 (scrypt). N = 2^15, r = 8 and p = 1 take about 80 ms and 32 MB for each attempt.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import threading
from collections import OrderedDict

from agent.core.errors import QuantdError

SHORTEST = 12  # characters
LONGEST = 256
_LOG2_N, _R, _P = 15, 8, 1
_MEMORY_BYTES = 2**26  # twice what these parameters need
_AT_A_TIME = threading.BoundedSemaphore(2)  # 32 MB each
_PATIENCE_S = 5.0
_FREE = 3  # attempts without a wait
_LONGEST_WAIT_S = 60.0
_NAMES = 10_000


class AccessError(QuantdError):
    """A sign-in or an account that is refused; the code is the reason."""

    code = "refused"


def password_hash(password: str) -> str:
    """Return a password's hash with its parameters and a new salt."""
    salt = os.urandom(16)
    digest = _scrypt(password, salt, 2**_LOG2_N, _R, _P)
    return f"scrypt${_LOG2_N}${_R}${_P}${_text(salt)}${_text(digest)}"


def matches(password: str, stored: str | None) -> bool:
    """Return whether a password has this hash; no hash takes as long as a wrong password."""
    _, log2_n, r, p, salt, digest = (stored or _NO_PASSWORD).split("$")
    found = _scrypt(password, base64.b64decode(salt), 2 ** int(log2_n), int(r), int(p))
    return hmac.compare_digest(found, base64.b64decode(digest)) and stored is not None


def check_new(password: str) -> None:
    """Refuse a password that is too short or too long.

    Raises:
        AccessError: "bad_password".
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise AccessError(
            f"the password has {len(password)} characters; {SHORTEST} to {LONGEST} are allowed",
            code="bad_password",
        )


class Attempts:
    """Failed attempts by user name, kept in memory: each after the third doubles the wait."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, name: str, now_s: float) -> None:
        """Count an attempt as failed until `succeeded`, so that parallel ones count as well.

        Args:
            name: Known or not, so that the answer doesn't show which.
            now_s: Monotonic clock.

        Raises:
            AccessError: "wait" if the name must wait; the hint names the seconds.
        """
        with self._lock:
            count, until_s = self._failed.get(name, (0, 0.0))
            if now_s < until_s:
                left_s = int(until_s - now_s) + 1
                raise AccessError("too many attempts", code="wait", hint=f"wait {left_s} s")
            wait_s = min(2.0 ** (count + 1 - _FREE), _LONGEST_WAIT_S) if count + 1 >= _FREE else 0.0
            self._failed[name] = (count + 1, now_s + wait_s)
            self._failed.move_to_end(name)
            while len(self._failed) > _NAMES:
                self._failed.popitem(last=False)

    def succeeded(self, name: str) -> None:
        """Forget the failed attempts of a name."""
        with self._lock:
            self._failed.pop(name, None)


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    if not _AT_A_TIME.acquire(timeout=_PATIENCE_S):
        raise AccessError("too many sign-ins at once", code="wait", hint="wait 5 s")
    try:
        return hashlib.scrypt(
            password[:LONGEST].encode(), salt=salt, n=n, r=r, p=p, maxmem=_MEMORY_BYTES, dklen=32
        )
    finally:
        _AT_A_TIME.release()


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


_NO_PASSWORD = f"scrypt${_LOG2_N}${_R}${_P}${_text(bytes(16))}${_text(bytes(32))}"
