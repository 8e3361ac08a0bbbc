"""A switch that was begun, and how a user's command ended."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunSwitch:
    """A switch of releases that was begun and has no outcome yet.

    Attributes:
        run_id: The run that began it; "" if an earlier version of quantd did.
        release: The release switched to.
        previous: The one that was active before, which recovery makes current again.
        trouble: Why reload or health refused the release; empty if that is not known.
    """

    run_id: str
    release: str
    previous: str | None
    trouble: str = ""
