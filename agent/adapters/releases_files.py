"""Releases as directories `releases/<id>/` and the symlink `current`, swapped by rename."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from agent.core.errors import ActivationError, StoreError

_INTENT = "activation.json"


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
            return Path(os.readlink(self._link)).name
        except OSError:
            return None

    def engine_digest(self, release: str) -> str | None:
        """Return the sha256 that the release states for its engine, None if it can't be read."""
        try:
            stated = json.loads((self._releases / release / "model.json").read_bytes())
            return str(stated["engine"]["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def create(self, release: str, files: Mapping[str, bytes | str]) -> None:
        """Make a release from contents (bytes) or files to copy (paths); complete or absent."""
        try:
            self._releases.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=".new-", dir=self._releases))
        except OSError as e:
            raise StoreError(f"{self._releases}: {e.strerror}", hint="check storage.dir") from e
        try:
            for name, body in files.items():
                target = work / name
                if isinstance(body, bytes):
                    target.write_bytes(body)
                else:
                    shutil.copyfile(body, target)
                target.chmod(0o644)
                _fsync(target)
            work.chmod(0o755)
            _fsync(work)
            target = self._releases / release
            if target.exists():
                shutil.rmtree(target)
            work.rename(target)
            _fsync(self._releases)
        except OSError as e:
            free_mb = shutil.disk_usage(self.root).free / 1e6
            raise StoreError(
                f"release {release} can't be written: {e.strerror} ({free_mb:.0f} MB free)",
                code="disk_full" if e.errno in {28, 122} else "store",
                hint="free some space; the previous release is still active",
            ) from e
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def intend(self, release: str, previous: str | None) -> None:
        """Write down, before acting, what is about to be switched."""
        body = json.dumps({"release": release, "previous": previous}).encode()
        temp = self.root / f".{_INTENT}"
        temp.write_bytes(body)
        _fsync(temp)
        temp.rename(self.root / _INTENT)
        _fsync(self.root)

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
        _fsync(self.root)

    def finish(self, keep: int) -> None:
        """Forget the intent; remove old releases beyond keep, never the current one."""
        (self.root / _INTENT).unlink(missing_ok=True)
        current = self.current()
        old = [release for release in self.ids() if release != current]
        for release in old[: max(0, len(old) - max(keep - 1, 1))]:
            shutil.rmtree(self._releases / release, ignore_errors=True)
        with contextlib.suppress(OSError):
            _fsync(self.root)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
