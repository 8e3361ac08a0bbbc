"""Where records and releases lie."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from agent.core.records import Digest


from agent.ports.types import RecordT


class Store(Protocol):
    """Artifacts by digest: a directory with a record and its files, complete or absent."""

    def get(self, digest: Digest, kind: type[RecordT]) -> RecordT | None:
        """Return the stored record, or None; a damaged one is set aside and counts as None."""
        ...

    def directory(self, digest: Digest) -> str:
        """Return where a stored artifact's files lie."""
        ...

    def stage(self, digest: Digest) -> AbstractContextManager[str]:
        """Yield an empty work directory on the store's file system; removed if not kept."""
        ...

    def keep(self, digest: Digest, work: str, record: object) -> None:
        """Make the work directory the artifact of this digest: fsync and one rename."""
        ...

    def prune(self, max_bytes: int, used: Collection[str]) -> int:
        """Remove artifacts, longest unused first and none in use; return the bytes freed."""
        ...


class Releases(Protocol):
    """What applications load: release directories and the link `current` to one of them."""

    def current(self) -> str | None:
        """Return the id of the release that `current` points to."""
        ...

    def path(self, release: str) -> str:
        """Return the directory of a release."""
        ...

    def ids(self) -> list[str]:
        """Return all releases, oldest first (ids begin with the time they were made)."""
        ...

    def model_json(self, release: str) -> dict[str, Any]:
        """Return model.json, empty if it can't be read."""
        ...

    def identity(self, release: str) -> str | None:
        """Return what identifies the release's content (`identity` in model.json), or None."""
        ...

    def lineage(self) -> frozenset[str]:
        """Return the digests of all records that the releases were made from."""
        ...

    def create(self, release: str, files: Mapping[str, bytes | str]) -> None:
        """Make a release from contents (bytes) or files to copy (paths); complete or absent."""
        ...

    def add(self, release: str, name: str, body: bytes) -> None:
        """Add one file to a release, complete or not at all."""
        ...

    def intend(self, release: str, previous: str | None) -> None:
        """Write down, before acting, what is about to be switched."""
        ...

    def pending(self) -> tuple[str, str | None] | None:
        """Return the (release, previous) of a switch that was begun and never finished."""
        ...

    def switch(self, release: str | None) -> None:
        """Point `current` to a release by one rename; None removes the link."""
        ...

    def finish(self, keep: int) -> None:
        """Forget the intent; remove old releases beyond keep, never the current one."""
        ...
