"""Read a TOML file, with errors that name it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from agent.core.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(file: Path) -> dict[str, Any]:
    """Return the tables of a file.

    Raises:
        ConfigError: if it can't be read, or is not UTF-8 or not TOML.
    """
    try:
        text = file.read_bytes().decode("utf-8")
    except OSError as e:
        raise ConfigError(
            f"{file}: cannot be read: {e.strerror}", hint="check the path and its permissions"
        ) from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"{file}: is not UTF-8 text (byte {e.start})") from e
    return parse_toml(text, str(file))


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """Return the tables in a text.

    Args:
        text: TOML.
        source: Of the text, for the error.

    Raises:
        ConfigError: if it is not TOML.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as e:
        raise ConfigError(f"{source}: is not valid TOML: {e}") from e
    return tables
