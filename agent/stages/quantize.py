"""Statistics of the calibration frames, and the model in a recipe's precision."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.core.errors import CalibrationError, QuantizeError
from agent.core.histogram import TensorHistogram, defect, from_arrays, to_arrays
from agent.core.lineage import CleanModel, Digest, QuantizedModel, Recipe, Statistics
from agent.core.thresholds import range_of
from agent.disk import disk_errors
from agent.ports import Progress, Quantizer

if TYPE_CHECKING:
    from agent.ports import Tensors

_FILE = "statistics.npz"
_SYMMETRIC = "S8S8"


def collect_statistics(
    model: CleanModel,
    model_path: str,
    frames: Iterable[Tensors],
    count: int,
    *,
    digest: Digest,
    calibration: Digest,
    work: str,
    quantizer: Quantizer,
    progress: Progress,
) -> Statistics:
    """Run the model once over the frames and write work/statistics.npz.

    Args:
        model: The clean model.
        model_path: Its file.
        frames: The model's inputs, one frame at a time; read once.
        count: How many frames are expected, for the progress.
        digest: Identity of the result.
        calibration: Digest of the calibration set behind the frames.
        work: Directory to write into.
        quantizer: Knows which tensors matter.
        progress: Told after every frame.

    Raises:
        CalibrationError: "no_frames".
    """
    used = 0

    def counted() -> Iterator[Tensors]:
        nonlocal used
        for frame in frames:
            yield frame
            used += 1

    arrays = to_arrays(quantizer.collect(model_path, counted(), count, progress))
    target = Path(work) / _FILE
    with disk_errors(target.parent), target.open("wb") as out:
        np.savez_compressed(out, **arrays)  # type: ignore[arg-type]  # its allow_pickle is a bool
    return Statistics(
        digest=digest,
        model=model.digest,
        calibration=calibration,
        tensors=len(arrays["name"]),
        frames=used,
    )


def quantize(
    model: CleanModel,
    model_path: str,
    recipe: Recipe,
    statistics: Statistics | None,
    statistics_path: str | None,
    *,
    digest: Digest,
    work: str,
    quantizer: Quantizer,
) -> QuantizedModel:
    """Write work/model.onnx in the recipe's precision.

    Raises:
        QuantizeError: "no_statistics" or "no_range" if there is nothing to calibrate with;
            whatever the quantizer refuses.
        CalibrationError: "damaged" if the statistics can't be read.
    """
    ranges = {}
    if recipe.calibrator:
        if statistics_path is None:
            raise QuantizeError(f"{recipe.precision} needs statistics", code="no_statistics")
        ranges = _ranges(load_statistics(statistics_path), recipe)
    fraction, kept = quantizer.quantize(model_path, recipe, ranges, str(Path(work) / "model.onnx"))
    return QuantizedModel(
        digest=digest,
        model=model.digest,
        statistics=statistics.digest if statistics else None,
        recipe=recipe,
        int8_macs_fraction=fraction,
        kept_float=kept,
    )


def load_statistics(path: str) -> tuple[TensorHistogram, ...]:
    """Read a statistics.npz.

    Raises:
        CalibrationError: "damaged" if it is not one.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return from_arrays({key: arrays[key] for key in arrays.files})
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
        raise CalibrationError(f"{path}: {e}", code="damaged", hint="run the capture again") from e


def _ranges(
    histograms: tuple[TensorHistogram, ...], recipe: Recipe
) -> dict[str, tuple[float, float]]:
    """Return the range of every tensor that has one; the others are left in float."""
    reasons = {h.name: defect(h) for h in histograms}
    sound = [h for h in histograms if not reasons[h.name]]
    if histograms and not sound:
        name, reason = next(iter(reasons.items()))
        raise QuantizeError(
            f"none of {len(histograms)} tensors has a range; {name}: {reason}",
            code="no_range",
            hint="look at the model's outputs on the calibration frames",
        )
    symmetric = recipe.scheme == _SYMMETRIC
    return {h.name: range_of(h, recipe.calibrator or "", symmetric) for h in sound}
