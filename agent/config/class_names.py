"""The names of the classes: in the configuration itself, or one a line in a file that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.core.errors import ConfigError

KEY = "model.task.names"
TASKS = ("classification", "segmentation", "detection")
"""Tasks that have classes."""
_MOST_BYTES = 2**20
_MOST_NAMES = 65_536
_MOST_CHARACTERS = 256


def read_names(tables: dict[str, Any]) -> dict[str, Any]:
    """Put the lines of the file that `model.task.names` names in the place of its path.

    Args:
        tables: Of a configuration, with absolute paths; changed.

    Raises:
        ConfigError: if the file can't be read, is not UTF-8 or is larger than 1 MB.
    """
    model = tables.get("model")
    task = model.get("task") if isinstance(model, dict) else None
    found = task.get("names") if isinstance(task, dict) else None
    if isinstance(task, dict) and isinstance(found, str):
        task["names"] = _lines(Path(found)) if found else []
    return tables


def check_names(names: tuple[str, ...], task: str) -> None:
    """Check that a task has classes to name, and that each name is a line of text.

    Raises:
        ConfigError: naming what was seen and what is allowed.
    """
    if names and task not in TASKS:
        raise ConfigError(
            f'{KEY} names classes, but model.task.kind is "{task}"',
            hint="set model.task.kind, or remove the names",
        )
    if len(names) > _MOST_NAMES:
        raise ConfigError(f"{KEY} has {len(names)} names", hint=f"{_MOST_NAMES} at most")
    for index, name in enumerate(names):
        if not 0 < len(name) <= _MOST_CHARACTERS or not name.isprintable():
            raise ConfigError(
                f"{KEY} has {name[:40]!r} as the name of class {index}",
                hint=f"1 to {_MOST_CHARACTERS} printable characters",
            )


def _lines(file: Path) -> list[str]:
    if file.exists() and not file.is_file():
        raise ConfigError(f"{KEY}: {file} is not a regular file")
    try:
        with file.open("rb") as stream:
            body = stream.read(_MOST_BYTES + 1)
    except OSError as e:
        raise ConfigError(
            f"{KEY}: {file}: cannot be read: {e.strerror}", hint="a text file, one name a line"
        ) from e
    if len(body) > _MOST_BYTES:
        raise ConfigError(f"{KEY}: {file} is larger than 1 MB", hint="a text file, one name a line")
    try:
        return body.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as e:
        raise ConfigError(f"{KEY}: {file} is not UTF-8 text (byte {e.start})") from e
