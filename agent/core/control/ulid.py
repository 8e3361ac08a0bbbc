"""ULIDs: message ids that sort by the time they were made, and never go back.

Source: https://github.com/ulid/spec (48 bits of milliseconds, 80 random bits, Crockford base32).
"""

from __future__ import annotations

import os
from collections.abc import Callable

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]  # half as many steps
_RANDOM_BITS = 80
_TO_BASE32 = str.maketrans(_ALPHABET, "0123456789ABCDEFGHIJKLMNOPQRSTUV")  # as int() reads it


class Ulids:
    """A source of ULIDs, each greater than the one before, even if the clock steps back.

    Args:
        entropy: Returns n random bytes.
    """

    def __init__(self, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._entropy = entropy
        self._last = 0

    def next(self, unix_ms: int) -> str:
        """Return a new id for this moment, ms since 1970."""
        drawn = int.from_bytes(self._entropy(_RANDOM_BITS // 8), "big")
        number = max((max(unix_ms, 0) << _RANDOM_BITS) | drawn, self._last + 1)
        self._last = number
        return _text(number)


def ulid_bytes(text: str) -> bytes:
    """Return the 16 bytes of a ULID, which sort as the text does."""
    return int(text.translate(_TO_BASE32), 32).to_bytes(16, "big")


def ulid_text(body: bytes) -> str:
    """Return the text of a ULID's 16 bytes."""
    return _text(int.from_bytes(body, "big"))


def ulid_ms(body: bytes) -> int:
    """Return when a ULID was made, ms since 1970."""
    return int.from_bytes(body[:6], "big")


def first_ulid(unix_ms: int) -> bytes:
    """Return the least ULID of a moment, 16 bytes."""
    return max(unix_ms, 0).to_bytes(6, "big") + bytes(10)


def _text(number: int) -> str:
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(120, -1, -10)])
