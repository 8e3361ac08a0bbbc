"""Stored artifacts and releases."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from agent.core.records import Activation, Digest
    from agent.core.release.marks import Mark
    from agent.core.release.recovery import BegunSwitch


from agent.ports.types import RecordT


class Store(Protocol):
    """Artifacts by digest: a directory with a record and its files, complete or absent."""

    def get(self, digest: Digest, kind: type[RecordT]) -> RecordT | None:
        """Return the stored record, None if it is missing or damaged; a damaged one is renamed."""
        ...

    def directory(self, digest: Digest) -> str:
        """Return the folder of a stored artifact."""
        ...

    def stage(self, digest: Digest) -> AbstractContextManager[str]:
        """Yield an empty work directory on the store's file system; removed if not kept."""
        ...

    def keep(self, digest: Digest, work: str, record: object) -> None:
        """Make the work directory the artifact of this digest: fsync, then one rename."""
        ...

    def prune(self, max_bytes: int, used: Collection[str]) -> int:
        """Remove the artifacts not used for longest until the store is within max_bytes.

        Args:
            max_bytes: The size to get under.
            used: Digests that must stay.

        Returns:
            Bytes freed.
        """
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
        """Return the ids of all releases, oldest first (an id begins with its time)."""
        ...

    def model_json(self, release: str) -> dict[str, Any]:
        """Return the release's model.json, empty if it can't be read."""
        ...

    def report(self, release: str) -> dict[str, Any]:
        """Return the report.json of the run that made the release, empty if it can't be read."""
        ...

    def identity(self, release: str) -> str | None:
        """Return `identity` of model.json, equal for equal contents, or None."""
        ...

    def lineage(self) -> frozenset[str]:
        """Return the digests of all records that the releases were made from."""
        ...

    def create(self, release: str, files: Mapping[str, bytes | str]) -> None:
        """Create a release, atomically, from contents (bytes) or files to copy (paths)."""
        ...

    def add(self, release: str, name: str, body: bytes) -> None:
        """Add one file to a release, atomically."""
        ...

    def marks(self) -> dict[str, Mark]:
        """Return what is known of each release, by its id."""
        ...

    def mark(self, release: str, *, good: bool, reason: str = "") -> None:
        """Mark a release as good or bad; nothing happens if it does not exist."""
        ...

    def intend(self, run_id: str, release: str, previous: str | None) -> None:
        """Record that a run begins to switch, before the switch."""
        ...

    def refuse(self, trouble: str) -> None:
        """Record why the release of the begun switch is bad, before going back."""
        ...

    def pending(self) -> BegunSwitch | None:
        """Return the switch that was begun and has no outcome, None if there is none."""
        ...

    def settled(self, run_id: str) -> Activation | None:
        """Return the outcome of a run's switch, None if it has none or was interrupted."""
        ...

    def switch(self, release: str | None) -> None:
        """Point `current` to a release by one rename; None removes the link.

        Raises:
            ActivationError: if there is no such release.
        """
        ...

    def finish(self, done: Activation, keep: int) -> None:
        """Record the outcome of the begun switch, then remove releases; see `removable`.

        Args:
            done: The outcome.
            keep: How many releases stay.
        """
        ...
