"""Which configuration file a verb reads, and which state belongs to it.

`--state` and `--output` put the state in another folder than the configured one. So that later
commands find it, a link in that folder leads to the configuration, and a note beside the
configuration to the folder.
"""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from agent.config.toml import read_toml
from agent.core.errors import ConfigError, StoreError
from agent.disk import READABLE, make_folder, write_atomically

HERE = "quantd.toml"
SYSTEM = Path("/etc/quantd/quantd.toml")
"""That of the daemon; its state stays in the configured folder."""
_NAMED = 5
_AS_THE_DAEMON = frozenset({"run", "doctor", "check-config"})


class NotedState(NamedTuple):
    """A folder of state, and the note that names it."""

    folder: Path
    note: Path


def config_file(options: argparse.Namespace) -> Path:
    """Return the configuration file of a command line.

    That of `-c`, else of the state folder, else ./quantd.toml, else the system's, else that of the
    only folder ./quantd-*, as `optimize MODEL` and the demo make it.

    Raises:
        ConfigError: if there is none.
    """
    if options.config:
        return Path(options.config)
    state = vars(options).get("state")
    beside = Path(state, HERE) if state else None
    if beside and beside.is_file() and _trusted(beside):
        return beside
    for file in (Path(HERE), SYSTEM):
        if file.is_file():
            return file
    made = [file for file in Path().glob(f"quantd-*/{HERE}") if _trusted(file)]
    if len(made) == 1 and options.name != "run":
        return made[0]
    looked = ", ".join(str(file) for file in (beside, Path(HERE).absolute(), SYSTEM) if file)
    raise ConfigError(
        f"no configuration: there is none of {looked}",
        code="no_config",
        hint=f"name one with -c: {', '.join(map(str, made[:_NAMED]))}"
        if made
        else "name one with -c, or write one: `quantd init your.onnx`",
    )


def has_config(options: argparse.Namespace) -> bool:
    """Return whether there is a configuration file for a command line."""
    try:
        config_file(options)
    except ConfigError:
        return False
    return True


def _trusted(file: Path) -> bool:
    """Return whether a file in a state folder is this user's or root's: it names commands to run."""
    return file.stat().st_uid in {0, os.geteuid()}


def state_folder(options: argparse.Namespace) -> Path | None:
    """Return the folder of `--state`; None without, or if it contains a result and no state."""
    if not options.state:
        return None
    folder = Path(options.state).absolute()
    only_result = (folder / "report.json").is_file() and not (folder / "state.db").exists()
    return None if only_result and (folder / HERE).is_symlink() else folder


def noted_state(options: argparse.Namespace, file: Path) -> NotedState | None:
    """Return where the state of a configuration without storage.dir was put."""
    note = _note(file)
    if options.name in _AS_THE_DAEMON or _is_system(file):
        return None
    with suppress(OSError, ValueError):
        folder = Path(note.read_text("utf-8").strip())
        if folder.is_absolute() and folder.is_dir():
            return NotedState(folder, note)
    return None


def note_state(options: argparse.Namespace) -> None:
    """Leave what later commands find the state and the result of this one by.

    A convenience: where it can't be left, `-c` and `--state` have to be given again.
    """
    given = vars(options)
    folders = [Path(one).absolute() for key in ("state", "output") if (one := given.get(key))]
    if not folders or not options.config:
        return
    file = Path(options.config)
    with suppress(OSError, StoreError):
        for folder in folders:
            make_folder(folder)
            _lead(folder / HERE, file.resolve())
        if not _is_system(file) and not read_toml(file).get("storage", {}).get("dir"):
            write_atomically(_note(file), f"{folders[0]}\n".encode(), mode=READABLE)


def _lead(link: Path, file: Path) -> None:
    """Make a link, unless there is a file of the user's."""
    if link.exists() and not link.is_symlink():
        return
    new = link.with_name(f".{HERE}-new")
    new.unlink(missing_ok=True)
    new.symlink_to(file)
    new.rename(link)


def _note(file: Path) -> Path:
    there = file.resolve()
    return there.with_name(f".{there.name}.state")


def _is_system(file: Path) -> bool:
    return file.resolve() == SYSTEM.resolve()
