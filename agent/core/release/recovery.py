"""Whether a switch succeeded, and what to do after a crash in the middle of one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """How a user's command ended: exit status (None: timed out) and its output."""

    argv: tuple[str, ...]
    status: int | None
    output: str

    @property
    def good(self) -> bool:
        """Return whether it exited with 0."""
        return self.status == 0

    def describe(self) -> str:
        """Return one line for the report."""
        name = " ".join(self.argv)
        ended = "did not end in time" if self.status is None else f"ended with {self.status}"
        last = self.output.strip().splitlines()
        return f"`{name}` {ended}" + (f": {last[-1][:200]}" if last else "")


def recovery(
    pending: tuple[str, str | None] | None, current: str | None
) -> tuple[bool, str | None, str]:
    """Decide at start about a switch that was begun and never confirmed.

    Args:
        pending: (release, previous) of the unfinished switch, or None.
        current: The release that `current` points to.

    Returns:
        (switch back?, to which release, reason in words). An unconfirmed release is never
        kept: its health was not checked.
    """
    if pending is None:
        return False, current, ""
    release, previous = pending
    if current == previous:
        return False, current, f"switch to {release} was interrupted before it took effect"
    return True, previous, f"switch to {release} was interrupted before its health was known"
