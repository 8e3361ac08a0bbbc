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
from agent.disk import disk_errors, fsync, remove_abandoned, work_folder, write_atomically

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
        """See `ports.Releases`."""
        return str(self._releases / release)

    def ids(self) -> list[str]:
        """See `ports.Releases`."""
        if not self._releases.is_dir():
            return []
        return sorted(p.name for p in self._releases.iterdir() if not p.name.startswith("."))

    def current(self) -> str | None:
        """See `ports.Releases`."""
        try:
            return self._link.readlink().name
        except OSError:
            return None

    def identity(self, release: str) -> str | None:
        """See `ports.Releases`."""
        found = self.model_json(release).get("identity")
        return None if found is None else str(found)

    def lineage(self) -> frozenset[str]:
        """See `ports.Releases`."""
        lineages = [self.model_json(release).get("lineage") for release in self.ids()]
        return frozenset(
            str(digest)
            for one in lineages
            if isinstance(one, dict)
            for digest in one.values()
            if digest
        )

    def model_json(self, release: str) -> dict[str, Any]:
        """See `ports.Releases`."""
        try:
            found = json.loads((self._releases / release / "model.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def create(self, release: str, files: Mapping[str, bytes | str]) -> None:
        """See `ports.Releases`."""
        with disk_errors(self._releases):
            self._releases.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self._releases, _WORK)
        with work_folder(self._releases, _WORK) as work, disk_errors(self._releases):
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
            target = self._releases / release
            if target.exists():
                shutil.rmtree(target)
            work.rename(target)
            fsync(self._releases)

    def add(self, release: str, name: str, body: bytes) -> None:
        """See `ports.Releases`."""
        write_atomically(self._releases / release / name, body)

    def intend(self, release: str, previous: str | None) -> None:
        """See `ports.Releases`."""
        body = json.dumps({"release": release, "previous": previous}).encode()
        write_atomically(self.root / _INTENT, body)

    def pending(self) -> tuple[str, str | None] | None:
        """See `ports.Releases`."""
        try:
            intent = json.loads((self.root / _INTENT).read_bytes())
            return str(intent["release"]), intent["previous"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def switch(self, release: str | None) -> None:
        """See `ports.Releases`."""
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
        """See `ports.Releases`."""
        (self.root / _INTENT).unlink(missing_ok=True)
        current = self.current()
        old = [release for release in self.ids() if release != current]
        for release in old[: max(0, len(old) - max(keep - 1, 1))]:
            shutil.rmtree(self._releases / release, ignore_errors=True)
        with contextlib.suppress(OSError):
            fsync(self.root)
