"""Artifacts as directories named by digest, created atomically.

`artifacts/<digest>/record.json` contains the record, the size of every file and the sha256 of the
files beside it (graphs, engines, statistics; images have checksums of their own). A truncated or
corrupted file is found when the record is read, and the artifact is made again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from agent.core.errors import StoreError
from agent.core.records import Digest
from agent.disk import (
    close_to_others,
    disk_errors,
    fsync,
    full_disk,
    make_folder,
    remove_abandoned,
    sha256_of,
    size_bytes,
    work_folder,
)

RecordT = TypeVar("RecordT")
_LOG = logging.getLogger(__name__)
_RECORD = "record.json"
_WORK = ".work-"


class _RecordFile(msgspec.Struct):
    record: msgspec.Raw
    files: dict[str, int]
    sha256: dict[str, str] = {}


class FileStore:
    """The Store port on a file system.

    Args:
        root: The storage directory; created if missing.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self._artifacts = self.root / "artifacts"
        try:
            with full_disk(self._artifacts):
                make_folder(self._artifacts)
        except OSError as e:
            raise StoreError(
                f"storage.dir {root} can't be created: {e.strerror}",
                hint="set storage.dir to a folder that you can write to, or pass --state DIR",
            ) from e

    def get(self, digest: Digest, kind: type[RecordT]) -> RecordT | None:
        """See `ports.Store`."""
        folder = self._artifacts / digest
        try:
            kept = msgspec.json.decode((folder / _RECORD).read_bytes(), type=_RecordFile)
            for name, size in kept.files.items():
                if (folder / name).stat().st_size != size:
                    raise StoreError(f"{name} is not {size} bytes long")
            for name, expected in kept.sha256.items():
                if sha256_of(folder / name) != expected:
                    raise StoreError(f"{name} has changed since it was stored")
            record = msgspec.json.decode(kept.record, type=kind)
        except FileNotFoundError:
            if folder.exists():
                self._set_aside(folder, "a file is missing")
            return None
        except (OSError, msgspec.MsgspecError, StoreError) as e:
            self._set_aside(folder, str(e))
            return None
        with contextlib.suppress(OSError):
            os.utime(folder)  # last used now, so pruned last
        return record

    def directory(self, digest: Digest) -> str:
        """See `ports.Store`."""
        return str(self._artifacts / digest)

    @contextlib.contextmanager
    def stage(self, digest: Digest) -> Iterator[str]:
        """See `ports.Store`."""
        with work_folder(self._artifacts, f"{_WORK}{digest[:8]}-") as work:
            yield str(work)

    def keep(self, digest: Digest, work: str, record: object) -> None:
        """See `ports.Store`."""
        folder = Path(work)
        with disk_errors(self.root):
            files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
            sizes = {str(p.relative_to(folder)): p.stat().st_size for p in files}
            digests = {p.name: sha256_of(p) for p in files if p.parent == folder}
            body = msgspec.json.encode({"record": record, "files": sizes, "sha256": digests})
            (folder / _RECORD).write_bytes(body)
            close_to_others(folder)
            for path in (*files, folder / _RECORD, folder):
                fsync(path)
            target = self._artifacts / digest
            if target.exists():  # the same inputs, finished by another run meanwhile
                return
            folder.rename(target)
            fsync(self._artifacts)

    def remove_abandoned(self) -> None:
        """Remove the work directories of killed processes, and damaged artifacts."""
        remove_abandoned(self._artifacts, _WORK)
        for path in self._artifacts.glob("*.damaged"):
            shutil.rmtree(path, ignore_errors=True)

    def prune(self, max_bytes: int, used: Collection[str]) -> int:
        """See `ports.Store`."""
        folders = [p for p in self._artifacts.iterdir() if not p.name.startswith(".")]
        sizes = {p: size_bytes(p) for p in folders}
        excess = sum(sizes.values()) - max_bytes
        freed = 0
        for path in sorted(folders, key=lambda p: p.stat().st_mtime):
            if freed >= excess:
                break
            if path.name not in used:
                shutil.rmtree(path, ignore_errors=True)
                freed += sizes[path]
        return freed

    def _set_aside(self, folder: Path, reason: str) -> None:
        _LOG.warning("artifact_damaged digest=%s reason=%s", folder.name, reason)
        aside = folder.with_name(folder.name + ".damaged")
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rename(aside)
