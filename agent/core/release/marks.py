"""Releases that proved good or bad: which to roll back to, and which to remove."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What is known of a release.

    Attributes:
        good: True if reload and health succeeded with it; False if one of them failed, if it no
            longer loads or was rolled back from; None if it was never active to the end.
        reason: Why it is bad; empty otherwise.
        pinned: Whether it is never removed.
    """

    good: bool | None = None
    reason: str = ""
    pinned: bool = False

    @property
    def words(self) -> str:
        """Return the mark for a person, empty if there is none."""
        verdict = {True: "good", False: f"bad: {self.reason}", None: ""}[self.good]
        return ", ".join(filter(None, (verdict, "pinned" if self.pinned else "")))


def rollback_order(
    ids: Sequence[str], current: str | None, marks: Mapping[str, Mark]
) -> tuple[str, ...]:
    """Return the releases that can be rolled back to, best first.

    The newest good one is the best, even if it is newer than the current one. Those without a mark
    follow, as an earlier version of quantd left them: only those older than the current one, since
    a newer one is what an interrupted switch left.

    Args:
        ids: All releases, oldest first.
        current: The active one.
        marks: Of each release.
    """
    others = [release for release in reversed(ids) if release != current]
    good = [release for release in others if marks[release].good]
    older = [release for release in others if current is None or release < current]
    return (*good, *(release for release in older if marks[release].good is None))


def removable(
    ids: Sequence[str], keep: int, needed: Collection[str], marks: Mapping[str, Mark]
) -> tuple[str, ...]:
    """Return the releases to remove so that `keep` stay, pinned ones not counted.

    Bad ones are removed first, then those without a mark, then good ones; older before newer.

    Args:
        ids: All releases, oldest first.
        keep: How many stay; at least the needed ones and, if none of those is a second one, one
            other.
        needed: The current one and the one that was active before it, which always stay.
        marks: Of each release.
    """
    others = [one for one in ids if one not in needed and not marks[one].pinned]
    worst_first = sorted(others, key=lambda one: {False: 0, None: 1, True: 2}[marks[one].good])
    room = max(keep, 2) - len(set(needed) & set(ids))
    return tuple(worst_first[: max(0, len(others) - max(room, 0))])
