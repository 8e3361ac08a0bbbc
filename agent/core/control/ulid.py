"""ULIDs: message ids that sort by the time they were made, and never go back.

Source: https://github.com/ulid/spec (48 bits of milliseconds, 80 random bits, Crockford base32).
"""

from __future__ import annotations

import os
from collections.abc import Callable

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]  # half as many steps
_RANDOM_BITS = 80


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
        return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(120, -1, -10)])
