"""Reading a release that may be replaced and removed meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.client.errors import ReleaseError
from agent.core.release.identity import identity_of

SCHEMA = 2
_MODEL = "model.json"
_MOST_BYTES = 64 * 2**20  # of model.json
_TRIES = 5  # of a folder that is removed while it is read
_AGAIN = "run `quantd optimize` again, or roll back to an earlier release"

Stamp = tuple[int, int, int]
"""Device, inode and time of model.json, which is written once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFiles:
    """A whole release: both files are of one folder, and the engine is the one described.

    Attributes:
        described: model.json.
        engine: The engine's bytes.
        stamp: Differs from that of any later release.
    """

    described: Mapping[str, Any]
    engine: bytes
    stamp: Stamp


def read_stamp(path: str) -> Stamp | None:
    """Return the stamp of the release at a path now; None if there is none."""
    try:
        return _stamp(Path(path, _MODEL).stat())
    except FileNotFoundError:
        return None


def read_release(path: str) -> ReleaseFiles:
    """Read a release, all of it from one folder.

    `current` is followed once, to a folder that is then kept open: another release can take its
    place, and quantd can remove it, but its files can't be mixed with others.

    Args:
        path: Of a release, or the link to one.

    Raises:
        ReleaseError: "no_release", "other_schema", or "bad_release" with what is damaged.
    """
    for _ in range(_TRIES):
        try:
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as e:
            raise _absent(path, e) from e
        try:
            stamp = _stamp(os.stat(_MODEL, dir_fd=folder))
            described = _described(path, _read(folder, _MODEL, _MOST_BYTES))
            engine = _read(folder, Path(described["engine"]["file"]).name)
        except FileNotFoundError as e:
            if not _exchanged(path, folder):
                raise _absent(path, e) from e
            continue
        except OSError as e:
            raise ReleaseError(f"{path}: {e}", code="bad_release", hint=_AGAIN) from e
        finally:
            os.close(folder)
        if hashlib.sha256(engine).hexdigest() != described["engine"]["sha256"]:
            raise ReleaseError(
                f"release {described['release']}: {described['engine']['file']} is damaged: it is "
                "not the file that was measured",
                code="bad_release",
                hint=_AGAIN,
            )
        return ReleaseFiles(described=described, engine=engine, stamp=stamp)
    raise ReleaseError(f"{path}: removed again and again while it was read", code="no_release")


def _described(path: str, body: bytes) -> dict[str, Any]:
    """Return model.json, checked to be of this schema and unchanged since it was written."""
    try:
        found = json.loads(body)
        schema = found["schema"]
        if schema == SCHEMA and identity_of(found) != found["identity"]:
            raise ValueError("it is not as quantd wrote it")
    except (ValueError, KeyError, TypeError) as e:
        raise ReleaseError(
            f"{path}: {_MODEL} is damaged: {e}", code="bad_release", hint=_AGAIN
        ) from e
    if schema != SCHEMA:
        older = isinstance(schema, int) and schema < SCHEMA
        raise ReleaseError(
            f"{path}: {_MODEL} has schema {schema}, this client reads {SCHEMA}",
            code="other_schema",
            hint="an earlier quantd made this release, without what an application needs: run "
            "`quantd optimize` again"
            if older
            else "update quantd in the application's environment",
        )
    return dict(found)


def _read(folder: int, name: str, most: int = -1) -> bytes:
    with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as file:
        return file.read(most)


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _exchanged(path: str, folder: int) -> bool:
    """Return whether a path is another folder now, or none."""
    try:
        return not os.path.samestat(Path(path).stat(), os.fstat(folder))
    except FileNotFoundError:
        return True


def _absent(path: str, error: OSError) -> ReleaseError:
    inside = Path(path, "current")
    hint = (
        f"open {inside}"
        if inside.exists()
        else "it is the link `current` in the folder that storage.dir names, once `quantd optimize` "
        "has activated a release"
    )
    return ReleaseError(f"{path} is no release: {error.strerror}", code="no_release", hint=hint)
