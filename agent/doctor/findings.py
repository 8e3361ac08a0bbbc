"""The result of a check, and the machine that is checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.adapters.host.board import jetson_sign
from agent.config import Config
from agent.disk import text_of

_UNITS = ("lib", "usr/lib", "usr/local/lib", "etc")  # the later one overrides the earlier one


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        level: ok, warning or problem.
        what: What was checked; `examine` fills it in.
        seen: What was found.
        cure: How to fix it; empty if the level is ok.
    """

    level: str
    what: str = ""
    seen: str
    cure: str = ""


def ok(seen: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(level="ok", seen=seen)


def warning(seen: str, cure: str) -> Finding:
    """Return a finding with which quantd works, but less well."""
    return Finding(level="warning", seen=seen, cure=cure)


def problem(seen: str, cure: str) -> Finding:
    """Return a finding with which quantd does not work."""
    return Finding(level="problem", seen=seen, cure=cure)


Check = Callable[[Config], "Finding | None"]
"""Returns None where the check does not apply to this machine or configuration."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The files of a machine; `root` is where its file system begins."""

    root: Path = Path("/")

    def text(self, path: str) -> str:
        """Return a file's text without surrounding whitespace, "" if it can't be read."""
        return text_of(self.root / path)

    def has(self, path: str) -> bool:
        """Return whether there is such a file."""
        return (self.root / path).exists()

    def found(self, pattern: str) -> Sequence[Path]:
        """Return the files that match a pattern, sorted."""
        return sorted(self.root.glob(pattern))

    def started_by(self, unit: str) -> str:
        """Return the program that a unit of systemd starts, with its drop-ins; "" without one."""
        paths = [f"{folder}/systemd/system/{unit}" for folder in _UNITS]
        drop_ins = [file for path in paths for file in self.found(f"{path}.d/*.conf")]
        paths += [str(file.relative_to(self.root)) for file in drop_ins]
        lines = "\n".join(self.text(path) for path in paths)
        started = re.findall(r"^ExecStart=[-@:+!]*(\S+)", lines, re.MULTILINE)
        return started[-1] if started else ""

    @property
    def jetson(self) -> bool:
        """Return whether it is a Jetson, also in a container."""
        return bool(jetson_sign(str(self.root)))


HERE = Machine()
