"""The npz file of chosen weights, by layer."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import CalibrationError
from agent.disk import disk_errors
from agent.graphs.rounding import Weights


def save_weights(path: str, weights: Weights) -> None:
    """Write weights by layer to an npz file; layer names are stored as values, not as keys."""
    arrays = {f"weights{index}": values for index, values in enumerate(weights.values())}
    names = np.array(list(weights), dtype=np.str_)
    with disk_errors(Path(path).parent), Path(path).open("wb") as out:
        np.savez_compressed(out, layers=names, **arrays)  # type: ignore[arg-type]  # not a bool


def load_weights(path: str) -> dict[str, NDArray[np.float32]]:
    """Read a file of `save_weights`.

    Raises:
        CalibrationError: "damaged" if it is not one.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = arrays["layers"]
            return {str(name): arrays[f"weights{index}"] for index, name in enumerate(names)}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as e:
        raise CalibrationError(f"{path}: {e}", code="damaged", hint="run the capture again") from e
