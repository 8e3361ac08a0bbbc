"""The npz file of refitted layers."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from agent.core.errors import CalibrationError
from agent.disk import disk_errors
from agent.graphs.replay import Layer


def save_refit(path: str, layers: Mapping[str, Layer]) -> None:
    """Write the weights and biases of layers; their names are stored as values, not as keys."""
    arrays = {
        f"{kind}{index}": values
        for index, layer in enumerate(layers.values())
        for kind, values in zip(("weights", "bias"), layer, strict=True)
    }
    names = np.array(list(layers), dtype=np.str_)
    with disk_errors(Path(path).parent), Path(path).open("wb") as out:
        np.savez_compressed(out, layers=names, **arrays)  # type: ignore[arg-type]  # not a bool


def load_refit(path: str) -> dict[str, Layer]:
    """Read a file of `save_refit`.

    Raises:
        CalibrationError: "damaged" if it is not one.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {
                str(name): (arrays[f"weights{index}"], arrays[f"bias{index}"])
                for index, name in enumerate(arrays["layers"])
            }
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as e:
        raise CalibrationError(f"{path}: {e}", code="damaged", hint="run the capture again") from e
