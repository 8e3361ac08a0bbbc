"""Board files (configs/boards/*.toml): facts of a board that it does not report itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from agent.config.toml import read_toml
from agent.core.errors import ConfigError, suggestion
from agent.core.prediction import roofline
from agent.disk import text_of

_COMPATIBLE = Path("proc/device-tree/compatible")
_HERE = Path("/")
_MOST = 1e6  # more than any board has; inf is TOML

Words = Annotated[str, Meta(min_length=1)]
Ending = Annotated[str, Meta(pattern="^p[0-9]{4}-[0-9a-z-]+$")]
Capability = Annotated[str, Meta(pattern=r"^[1-9][0-9]?\.[0-9]$")]
Amount = Annotated[float, Meta(gt=0, le=_MOST)]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class BoardPower(_Table, frozen=True):
    """What the board's power sensors measure.

    Attributes:
        total_rail: The rail of the whole board; empty where rails are summed.
        not_in_it: What that power leaves out or may count twice, in words.
        maximum_w: More than it can draw, None if no source gives that.
    """

    total_rail: str
    not_in_it: Words
    maximum_w: Amount | None = None


class Peak(_Table, frozen=True, kw_only=True):
    """NVIDIA's figures: tera-operations per second with sparsity, and 1e9 bytes per second."""

    memory_gb_per_s: Amount
    int8_sparse_tops: Amount | None = None
    fp4_sparse_tflops: Amount | None = None

    def rates(self) -> roofline.Peak | None:
        """Return the rates for predictions, None without any; INT8 has half the rate of FP4."""
        tops = self.int8_sparse_tops or (self.fp4_sparse_tflops or 0.0) / 2
        if not tops:
            return None
        return roofline.Peak(
            int8_sparse_ops_per_s=1e12 * tops, memory_bytes_per_s=1e9 * self.memory_gb_per_s
        )


class Board(_Table, frozen=True, kw_only=True):
    """One board file.

    Attributes:
        id: Stem of its file, e.g. "orin-nano".
        compatible: Endings of strings in the device tree that identify it.
        compute_capability: CUDA's, e.g. "8.7".
        dla_cores: Deep-learning accelerators.
        power_modes: Their names in nvpmodel; empty where no source gives them.
        sources: The source of each value.
    """

    id: str = ""
    name: Words
    compatible: tuple[Ending, ...]
    compute_capability: Capability
    memory_mb: Annotated[int, Meta(gt=0)]
    dla_cores: Annotated[int, Meta(ge=0, le=8)]
    power_modes: tuple[Words, ...]
    power: BoardPower
    peak: Peak
    sources: dict[str, str]


def boards() -> dict[str, Board]:
    """Return every board that quantd ships with, by id.

    Raises:
        ConfigError: if their files are missing or one of them is invalid.
    """
    found = {file.stem: read_board_file(file) for file in sorted(folder().glob("*.toml"))}
    if not found:  # otherwise every board would silently be unknown
        raise ConfigError(
            f"{folder()}: no board files",
            hint="the installation is incomplete: install quantd again",
        )
    return found


def board(wanted: str, compatible: Sequence[str] | None = None) -> Board | None:
    """Return the board that `device.board` names, or None where "auto" recognizes none.

    Args:
        wanted: "auto", the id of a shipped board, or the path of a board file.
        compatible: Strings of the device tree; those of this machine if not given.

    Raises:
        ConfigError: if there is no such board, or its file is invalid.
    """
    if wanted.endswith(".toml"):
        return read_board_file(Path(wanted))
    known = boards()
    if wanted == "auto":
        return recognized(known.values(), device_tree() if compatible is None else compatible)
    if wanted not in known:
        raise ConfigError(
            f'device.board = "{wanted}" is not known',
            hint=suggestion(wanted, known)
            + f"known are auto, {', '.join(known)}, or the path of a board file (.toml)",
        )
    return known[wanted]


def recognized(known: Iterable[Board], compatible: Sequence[str]) -> Board | None:
    """Return the board that the device tree names; with several, the longest match."""
    found = [
        (len(ending), candidate.id, candidate)
        for candidate in known
        for ending in candidate.compatible
        if any(text.endswith(ending) for text in compatible)
    ]
    return max(found)[2] if found else None


def device_tree(root: Path = _HERE) -> tuple[str, ...]:
    """Return the `compatible` strings of the device tree, none without a device tree."""
    return tuple(text_of(root / _COMPATIBLE).split())


def read_board_file(file: Path) -> Board:
    """Read one board file.

    Raises:
        ConfigError: if it can't be read, or a key is missing, unknown or of another type.
    """
    try:
        return msgspec.convert({**read_toml(file), "id": file.stem}, Board)
    except msgspec.ValidationError as e:
        raise ConfigError(
            f"{file}: {e}", hint="the files of configs/boards show every key of a board"
        ) from e


def folder() -> Path:
    """Return the folder of the shipped files: configs/boards, in a wheel beside this module.

    A wheel's data folder would depend on `pip install --user` or `--target`.
    """
    checkout = Path(__file__).parents[2] / "configs/boards"
    return checkout if checkout.is_dir() else Path(__file__).with_name("board_files")
