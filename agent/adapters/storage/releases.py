"""Releases as directories `releases/<id>/` and the symlink `current`, swapped by rename."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.core.errors import ActivationError
from agent.disk import disk_errors, fsync, sweep, work_folder, write_atomically

_INTENT = "activation.json"
_WORK = ".new-"


class FileReleases:
    """The Releases port on a file system.

    Args:
        root: The storage directory.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self._releases = self.root / "releases"
        self._link = self.root / "current"

    def path(self, release: str) -> str:
        """Return the directory of a release."""
        return str(self._releases / release)

    def ids(self) -> list[str]:
        """Return all releases, oldest first (ids begin with the time they were made)."""
        if not self._releases.is_dir():
            return []
        return sorted(p.name for p in self._releases.iterdir() if not p.name.startswith("."))

    def current(self) -> str | None:
        """Return the id of the release that `current` points to."""
        try:
            return self._link.readlink().name
        except OSError:
            return None

    def identity(self, release: str) -> str | None:
        """Return what identifies the release's content (`identity` in model.json), or None."""
        found = self.model_json(release).get("identity")
        return None if found is None else str(found)

    def lineage(self) -> frozenset[str]:
        """Return the digests of all records that the releases were made from."""
        stated = [self.model_json(release).get("lineage") for release in self.ids()]
        return frozenset(
            str(digest)
            for one in stated
            if isinstance(one, dict)
            for digest in one.values()
            if digest
        )

    def model_json(self, release: str) -> dict[str, Any]:
        """Return model.json, empty if it can't be read."""
        try:
            stated = json.loads((self._releases / release / "model.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return stated if isinstance(stated, dict) else {}

    def create(self, release: str, files: Mapping[str, bytes | str]) -> None:
        """Make a release from contents (bytes) or files to copy (paths); complete or absent."""
        with disk_errors(self._releases):
            self._releases.mkdir(parents=True, exist_ok=True)
        sweep(self._releases, _WORK)
        with work_folder(self._releases, _WORK) as work, disk_errors(self._releases):
            self._fill(work, files)
            target = self._releases / release
            if target.exists():
                shutil.rmtree(target)
            work.rename(target)
            fsync(self._releases)

    def add(self, release: str, name: str, body: bytes) -> None:
        """Add one file to a release, complete or not at all."""
        write_atomically(self._releases / release / name, body)

    def intend(self, release: str, previous: str | None) -> None:
        """Write down, before acting, what is about to be switched."""
        body = json.dumps({"release": release, "previous": previous}).encode()
        write_atomically(self.root / _INTENT, body)

    def pending(self) -> tuple[str, str | None] | None:
        """Return the (release, previous) of a switch that was begun and never finished."""
        try:
            intent = json.loads((self.root / _INTENT).read_bytes())
            return str(intent["release"]), intent["previous"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def switch(self, release: str | None) -> None:
        """Point `current` to a release by one rename; None removes the link."""
        if release is None:
            self._link.unlink(missing_ok=True)
        else:
            if not (self._releases / release).is_dir():
                known = ", ".join(self.ids()) or "none"
                raise ActivationError(f"no release {release}", hint=f"releases here: {known}")
            temp = self.root / f".current-{os.getpid()}"
            temp.unlink(missing_ok=True)
            temp.symlink_to(Path("releases", release))
            temp.rename(self._link)
        fsync(self.root)

    def finish(self, keep: int) -> None:
        """Forget the intent; remove old releases beyond keep, never the current one."""
        (self.root / _INTENT).unlink(missing_ok=True)
        current = self.current()
        old = [release for release in self.ids() if release != current]
        for release in old[: max(0, len(old) - max(keep - 1, 1))]:
            shutil.rmtree(self._releases / release, ignore_errors=True)
        with contextlib.suppress(OSError):
            fsync(self.root)

    def _fill(self, work: Path, files: Mapping[str, bytes | str]) -> None:
        for name, body in files.items():
            target = work / name
            if isinstance(body, bytes):
                target.write_bytes(body)
            else:
                shutil.copyfile(body, target)
            target.chmod(0o644)
            fsync(target)
        work.chmod(0o755)
        fsync(work)
