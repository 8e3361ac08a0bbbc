"""Which numbers of a device's stream did not come.

Workers may see messages of one device in another order, and a device repeats what it is asked for:
a number that comes late closes its hole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

HOLES_LIMIT = 32
Gap = tuple[int, int, int]
"""First and last missing number, and when that was noticed, ms since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What is known of one stream's numbers.

    Attributes:
        following: One above the highest number that came.
        newest: Id of the newest message, 16 bytes.
        holes: Below `following`, in order. Of more than 32 the oldest are forgotten.
    """

    following: int
    newest: bytes
    holes: tuple[Gap, ...] = ()

    @property
    def missing(self) -> int:
        """Return how many numbers are missing."""
        return sum(last - first + 1 for first, last, _ in self.holes)


def observe(
    numbers: Numbers | None, came: Iterable[tuple[bytes, int]], now_ms: int
) -> Numbers | None:
    """Return the numbers of a stream after some messages.

    Args:
        numbers: Before; None if none ever came. What was before the first is not missing.
        came: Id and number of each message, in any order.
        now_ms: When new holes are noticed, ms since 1970.
    """
    for message, number in sorted(came):
        if numbers is None:
            numbers = Numbers(following=number + 1, newest=message)
        elif number >= numbers.following:
            holes = numbers.holes
            if number > numbers.following:
                holes = (*holes, (numbers.following, number - 1, now_ms))[-HOLES_LIMIT:]
            newest = max(message, numbers.newest)
            numbers = Numbers(following=number + 1, newest=newest, holes=holes)
        elif any(first <= number <= last for first, last, _ in numbers.holes):
            numbers = replace(numbers, holes=_filled(numbers.holes, number))
        elif message > numbers.newest:  # the device lost its counter, and counts from 1 again
            numbers = Numbers(following=number + 1, newest=message)
    return numbers


def _filled(holes: Iterable[Gap], number: int) -> tuple[Gap, ...]:
    left: list[Gap] = []
    for first, last, noticed_ms in holes:
        if not first <= number <= last:
            left.append((first, last, noticed_ms))
            continue
        left += [
            (begin, end, noticed_ms)
            for begin, end in ((first, number - 1), (number + 1, last))
            if begin <= end
        ]
    return tuple(left[-HOLES_LIMIT:])
