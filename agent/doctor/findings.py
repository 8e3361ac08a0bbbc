"""One line of what the doctor says, and the machine that it looks at."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from agent.config import Config

_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: level ok, warning or problem; what was looked at, seen, and what mends it."""

    level: str
    what: str
    seen: str
    cure: str = ""


Look = Callable[[Config], "Finding | None"]
"""Returns None where there is nothing to say about this machine."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The files and commands of a machine; `root` is where its file system begins."""

    root: Path = Path("/")

    def text(self, path: str) -> str:
        """Return a file's text without its ends, "" if it can't be read."""
        try:
            found = (self.root / path).read_text(errors="replace")
        except OSError:
            return ""
        return found.replace("\0", " ").strip()

    def has(self, path: str) -> bool:
        """Return whether there is such a file."""
        return (self.root / path).exists()

    def found(self, pattern: str) -> Sequence[Path]:
        """Return the files that match a pattern, in order."""
        return sorted(self.root.glob(pattern))

    @property
    def jetson(self) -> bool:
        """Return whether it runs Jetson Linux."""
        return self.has("etc/nv_tegra_release")


def told(*command: str) -> str:
    """Return what a command prints, "" if it is not there, fails or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def version_of(distribution: str) -> str | None:
    """Return the version of an installed distribution, None if it isn't."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
