"""What must be true of the releases of a device whenever its power was cut or its disk was full."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from agent import config as configuration
from agent.wiring import storage

_TEMPORARY = (".*", "releases/.*", "artifacts/.*", "runs/.*", "runs/*/.*")


def incomplete(state: Path, release: str | None = None) -> str:
    """Return what is wrong with a release, by default the one that `current` points to; "" if nothing."""
    link = state / "current" if release is None else state / "releases" / release
    if release is None and not link.is_symlink():
        return "there is no `current`"
    try:
        described = json.loads((link / "model.json").read_bytes())
        engine = (link / described["engine"]["file"]).read_bytes()
    except (OSError, ValueError, KeyError) as error:
        return f"{link} is incomplete: {error!r}"
    if hashlib.sha256(engine).hexdigest() != described["engine"]["sha256"]:
        return f"{link}: the engine is not the one that model.json describes"
    if described["release"] != link.resolve().name:
        return f"{link}: model.json describes {described['release']}"
    return ""


def current(state: Path) -> str | None:
    """Return the active release."""
    link = state / "current"
    return link.readlink().name if link.is_symlink() else None


def leftovers(state: Path) -> list[str]:
    """Return the temporary files and folders that an idle device should not have."""
    return sorted(
        str(path.relative_to(state)) for pattern in _TEMPORARY for path in state.glob(pattern)
    )


def pending(config: Path) -> str | None:
    """Return the release of a switch that was begun and not ended."""
    found = storage.releases(configuration.load(config)).pending()
    return found.release if found else None


def copied(config: Path, release: str) -> str:
    """Make a new release with the engine of another one; return its id."""
    effective = configuration.load(config)
    name = storage.RunIds(effective).next()
    source = Path(effective.storage.dir, "releases", release)
    body = json.loads((source / "model.json").read_bytes())
    body |= {"release": name, "identity": f"copy {name}"}
    engine = body["engine"]["file"]
    files = {engine: str(source / engine), "model.json": json.dumps(body).encode()}
    storage.releases(effective).create(name, files)
    return name
