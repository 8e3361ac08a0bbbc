"""An application that quantd serves: its reload and health commands, and what they saw.

The reload command stores, in one rename, which release it was given and what `current` pointed to;
the health command accepts or refuses by plan. Both append a line to a log when they begin and end,
with the process id of their parent, so that a test sees whose switch it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_RELOAD = """\
cd "{folder}" && . ./plan
echo "reload $PPID $QUANTD_RELEASE" >>log
while [ -e paused ]; do sleep 0.05; done
sleep "$reload_s"
printf '%s\\n%s\\n' "$QUANTD_RELEASE" "$(readlink "{current}")" >".given-$$"
mv ".given-$$" given
sleep "$reload_s"
echo "reloaded $PPID $QUANTD_RELEASE" >>log
"""
_HEALTH = """\
cd "{folder}" && . ./plan
echo "health $PPID $QUANTD_RELEASE" >>log
sleep "$health_s"
case " $accepted " in
  *" $QUANTD_RELEASE "* | " any ") echo "healthy $PPID $QUANTD_RELEASE" >>log ;;
  *) echo "refused $PPID $QUANTD_RELEASE" >>log; exit 4 ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """A line of the log: what happened, in which process of quantd, with which release."""

    what: str
    parent: int
    release: str


class Application:
    """The two commands in a folder of their own.

    Args:
        folder: Is created.
        current: The symlink that quantd switches.
    """

    def __init__(self, folder: Path, current: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.log = folder / "log"
        self.log.touch()
        self.plan()
        for name, script in (("reload", _RELOAD), ("health", _HEALTH)):
            (folder / f"{name}.sh").write_text(script.format(folder=folder, current=current))

    @property
    def commands(self) -> dict[str, list[str]]:
        """Return the keys of the table [activation]."""
        return {name: ["sh", str(self._folder / f"{name}.sh")] for name in ("reload", "health")}

    def plan(
        self, *, reload_s: float = 0.0, health_s: float = 0.0, accepted: Sequence[str] = ("any",)
    ) -> None:
        """Set how long the commands take, and which releases are healthy (in this order: any)."""
        temp = self._folder / ".plan"
        text = f"reload_s={reload_s / 2:.3f}\nhealth_s={health_s:.3f}\n"
        temp.write_text(f"{text}accepted='{' '.join(accepted)}'\n")
        temp.rename(self._folder / "plan")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Make reloads last until the end of the block."""
        (self._folder / "paused").touch()
        try:
            yield
        finally:
            (self._folder / "paused").unlink()

    def given(self) -> tuple[str, str]:
        """Return the release that the last reload was given, and the one `current` pointed to."""
        try:
            release, link = (self._folder / "given").read_text().split("\n")[:2]
        except FileNotFoundError:
            return "", ""
        return release, Path(link).name

    def give(self, release: str) -> None:
        """Stand for a reload, so that what was reported once is not reported again."""
        (self._folder / "given").write_text(f"{release}\n{release}\n")

    def seen(self, begin: int = 0) -> list[Seen]:
        """Return the lines of the log from a byte on."""
        with self.log.open("rb") as file:
            file.seek(begin)
            lines = file.read().decode().splitlines()
        found = [line.split() for line in lines]
        return [Seen(one[0], int(one[1]), "".join(one[2:])) for one in found if len(one) > 1]

    def size(self) -> int:
        """Return how long the log is, bytes."""
        return self.log.stat().st_size
