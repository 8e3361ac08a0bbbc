"""A limit on how often something is done: a burst, then a steady rate."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class TokenBucket:
    """Tokens that are taken one by one and come back with time.

    Attributes:
        burst: Tokens at the beginning, and at most.
        per_s: Tokens that come back in a second.
    """

    burst: int
    per_s: float
    _left: float = field(init=False)
    _seen_ns: int | None = None

    def __post_init__(self) -> None:
        """Begin with all tokens."""
        self._left = self.burst

    def take(self, now_ns: int) -> bool:
        """Take a token and return True, or False if there is none.

        Args:
            now_ns: Monotonic.
        """
        if self._seen_ns is not None:
            back = (now_ns - self._seen_ns) / 1e9 * self.per_s
            self._left = min(self.burst, self._left + back)
        self._seen_ns = now_ns
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
