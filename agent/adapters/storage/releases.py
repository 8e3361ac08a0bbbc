"""Releases as directories `releases/<id>/` and the symlink `current`, swapped by rename.

`activation.json` is the ledger of switches: the newest at its top, as begun or with its outcome,
and some before it. Marks and pins are files in the release, so they are removed with it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agent.core.errors import ActivationError, StoreError
from agent.core.records import Activation
from agent.core.release.marks import Mark, removable
from agent.core.release.recovery import BegunSwitch
from agent.disk import (
    READABLE,
    disk_errors,
    fsync,
    make_folder,
    remove_abandoned,
    work_folder,
    write_atomically,
)

_LEDGER = "activation.json"
_LEDGER_BYTES = 16384  # always, filled up with spaces
_EARLIER_KEPT = 16
_DETAIL_CHARS = 1000
_MARK = ".mark.json"
_PINNED = ".pinned"
_WORK = ".new-"
_LOG = logging.getLogger(__name__)
_UNSETTLED = ("begun", "refused")
_OUTCOMES = ("active", "rolled_back")


class _Switch(msgspec.Struct, frozen=True):
    state: str = "begun"  # as earlier versions of quantd, which recorded this one only
    run_id: str = ""
    release: str | None = None
    previous: str | None = None
    detail: str = ""


class _Ledger(_Switch, frozen=True):
    earlier: tuple[_Switch, ...] = ()


class _MarkFile(msgspec.Struct, frozen=True):
    good: bool | None = None
    reason: str = ""


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
        return self._json(release, "model.json")

    def report(self, release: str) -> dict[str, Any]:
        """See `ports.Releases`."""
        return self._json(release, "report.json")

    def _json(self, release: str, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self._releases / release / name).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def create(self, release: str, files: Mapping[str, bytes | str]) -> None:
        """See `ports.Releases`."""
        with disk_errors(self._releases):
            make_folder(self._releases)
        remove_abandoned(self._releases, _WORK)
        with work_folder(self._releases, _WORK) as work, disk_errors(self._releases):
            for name, body in files.items():
                target = work / name
                if isinstance(body, bytes):
                    target.write_bytes(body)
                else:
                    shutil.copyfile(body, target)
                target.chmod(READABLE)
                fsync(target)
            work.chmod(0o755)
            fsync(work)
            self._remove(release)
            work.rename(self._releases / release)
            fsync(self._releases)

    def remove_abandoned(self) -> None:
        """Remove what killed processes left half-written; only for the owner of the storage lock."""
        remove_abandoned(self._releases, _WORK)
        for pattern in (f".{_LEDGER}-*", ".current-*", "releases/*/.*.json-*"):
            for left in self.root.glob(pattern):
                with contextlib.suppress(OSError):
                    left.unlink()

    def add(self, release: str, name: str, body: bytes) -> None:
        """See `ports.Releases`."""
        write_atomically(self._releases / release / name, body, mode=READABLE)

    def marks(self) -> dict[str, Mark]:
        """See `ports.Releases`; a damaged mark counts as none."""
        switches = self._switches()
        return {release: self._mark(release, switches) for release in self.ids()}

    def mark(self, release: str, *, good: bool, reason: str = "") -> None:
        """See `ports.Releases`."""
        if release not in self.ids():
            return
        file = self._releases / release / _MARK
        body = msgspec.json.encode(_MarkFile(good=good, reason=reason))
        try:
            write_atomically(file, body, mode=READABLE)
        except StoreError as error:  # no reason to undo a switch
            _LOG.warning("mark_not_written release=%s %s", release, error.message)
            if not good:  # then at least no longer a good one, which a full disk does not prevent
                with contextlib.suppress(OSError):
                    file.unlink()

    def pin(self, release: str, *, pinned: bool) -> None:
        """Keep a release for ever, or no longer.

        Raises:
            ActivationError: "no_release" if there is no such release.
        """
        if release not in self.ids():
            raise self._unknown(release)
        file = self._releases / release / _PINNED
        if pinned:
            write_atomically(file, b"", mode=READABLE)
        else:
            with disk_errors(file.parent):
                file.unlink(missing_ok=True)

    def intend(self, run_id: str, release: str, previous: str | None) -> None:
        """See `ports.Releases`."""
        self._record(
            _Switch(run_id=run_id, release=release, previous=previous), earlier=self._switches()
        )

    def refuse(self, trouble: str) -> None:
        """See `ports.Releases`."""
        begun, *earlier = self._switches()
        refused = msgspec.structs.replace(begun, state="refused", detail=trouble)
        self._record(refused, earlier=earlier)

    def pending(self) -> BegunSwitch | None:
        """See `ports.Releases`; a damaged ledger counts as none."""
        for newest in self._switches()[:1]:
            if newest.state in _UNSETTLED and newest.release is not None:
                return BegunSwitch(
                    run_id=newest.run_id,
                    release=newest.release,
                    previous=newest.previous,
                    trouble=newest.detail,
                )
        return None

    def settled(self, run_id: str) -> Activation | None:
        """See `ports.Releases`."""
        for one in self._switches():
            if run_id and one.run_id == run_id and one.state in _OUTCOMES:
                return Activation(
                    state=one.state, release=one.release, previous=one.previous, detail=one.detail
                )
        return None

    def switch(self, release: str | None) -> None:
        """See `ports.Releases`."""
        if release is not None and not (self._releases / release).is_dir():
            raise self._unknown(release)
        with disk_errors(self.root):
            if release is None:
                self._link.unlink(missing_ok=True)
            else:
                temp = self.root / f".current-{os.getpid()}"
                temp.unlink(missing_ok=True)
                temp.symlink_to(Path("releases", release))
                temp.rename(self._link)
            fsync(self.root)

    def finish(self, done: Activation, keep: int) -> None:
        """See `ports.Releases`."""
        begun, *earlier = self._switches() or [_Switch()]
        ended = _Switch(
            state=done.state,
            run_id=begun.run_id,
            release=done.release,
            previous=done.previous,
            detail=done.detail,
        )
        self._record(ended, earlier=earlier)
        for release in removable(self.ids(), keep, self._needed(), self.marks()):
            self._remove(release)
        with contextlib.suppress(OSError):
            fsync(self._releases)

    def _needed(self) -> frozenset[str]:
        """Return the current release and the one that was active before it."""
        current = self.current()
        for one in self._switches():
            if one.state == "active" and one.release == current:
                return frozenset(filter(None, (current, one.previous)))
        return frozenset(filter(None, (current,)))

    def _switches(self) -> list[_Switch]:
        """Return the switches recorded, newest first."""
        try:
            found = msgspec.json.decode((self.root / _LEDGER).read_bytes(), type=_Ledger)
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as error:
            _LOG.warning("ledger_damaged file=%s %s", _LEDGER, error)
            return []
        newest = _Switch(**{name: getattr(found, name) for name in _Switch.__struct_fields__})
        return [newest, *found.earlier]

    def _record(self, newest: _Switch, *, earlier: Iterable[_Switch]) -> None:
        """Write the ledger; on a full disk into the space that it has, so that a switch can end."""
        newest = msgspec.structs.replace(newest, detail=newest.detail[:_DETAIL_CHARS])
        kept = tuple(one for one in earlier if one.state not in _UNSETTLED)[:_EARLIER_KEPT]
        body = b""
        while not body or len(body) > _LEDGER_BYTES:
            ledger = _Ledger(**msgspec.structs.asdict(newest), earlier=kept)
            body, kept = msgspec.json.encode(ledger), kept[:-1]
        file = self.root / _LEDGER
        try:
            write_atomically(file, body.ljust(_LEDGER_BYTES), mode=READABLE)
        except StoreError as error:
            if error.code != "disk_full" or not file.exists():
                raise
            with disk_errors(self.root), file.open("r+b", buffering=0) as out:
                out.write(body.ljust(_LEDGER_BYTES))
                os.fsync(out.fileno())

    def _mark(self, release: str, switches: Sequence[_Switch]) -> Mark:
        folder = self._releases / release
        try:
            found = msgspec.json.decode((folder / _MARK).read_bytes(), type=_MarkFile)
        except FileNotFoundError:
            found = _proved(release, switches)
        except (OSError, msgspec.MsgspecError):
            found = _MarkFile()
        return Mark(good=found.good, reason=found.reason, pinned=(folder / _PINNED).exists())

    def _remove(self, release: str) -> None:
        """Remove a release: all of it, or nothing yet; a killed removal is completed by `create`."""
        leaving = self._releases / f"{_WORK}{release}"
        shutil.rmtree(leaving, ignore_errors=True)
        with contextlib.suppress(OSError):
            (self._releases / release).rename(leaving)
        shutil.rmtree(leaving, ignore_errors=True)

    def _unknown(self, release: str) -> ActivationError:
        known = ", ".join(self.ids()) or "none"
        return ActivationError(
            f"no release {release}", code="no_release", hint=f"releases here: {known}"
        )


def _proved(release: str, switches: Sequence[_Switch]) -> _MarkFile:
    """Return what the ledger shows of a release whose mark a full disk did not take."""
    for one in switches:
        if one.state == "active" and release in {one.release, one.previous}:
            return _MarkFile(good=True if one.release == release else None)
        if one.state == "rolled_back" and one.previous == release:
            return _MarkFile(good=False, reason=one.detail)
    return _MarkFile()
