"""Statistics of the calibration frames, and the model in the precision of a recipe."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.core.errors import CalibrationError, QuantizeError
from agent.core.quantization.calibrators import range_of
from agent.core.quantization.histogram import TensorHistogram, defect, from_arrays, merge, to_arrays
from agent.core.quantization.mixed_search import Placement, best_weight_steps, is_symmetric
from agent.core.records import AS_GIVEN, Digest, QuantizedModel, Recipe, Statistics
from agent.disk import disk_errors
from agent.ports import Progress, QuantizationTrial, Quantizer

if TYPE_CHECKING:
    from agent.ports import Tensors

_FILE = "statistics.npz"
Earlier = tuple[Statistics, Sequence[TensorHistogram]]


def collect_statistics(
    model: Digest,
    model_path: str,
    frames: Iterable[Tensors],
    count: int,
    *,
    digest: Digest,
    calibration: Digest,
    work: str,
    quantizer: Quantizer,
    progress: Progress,
    earlier: Earlier | None = None,
) -> Statistics:
    """Run the model once over the frames and write work/statistics.npz.

    Args:
        model: Digest of the conditioned model.
        model_path: Its file.
        frames: The model's inputs, one frame at a time; read once.
        count: Expected number of frames, for the progress.
        digest: Identity of the result.
        calibration: Digest of the frames' calibration set.
        work: Directory to write into.
        quantizer: Collects the histograms.
        progress: Called after every frame.
        earlier: Statistics of the same graph to add to these.

    Raises:
        CalibrationError: "no_frames"; "other_tensors" if the earlier ones are of another graph.
    """
    used = 0

    def counted() -> Iterator[Tensors]:
        nonlocal used
        for frame in frames:
            yield frame
            used += 1

    collected = quantizer.collect(model_path, counted(), count, progress)
    arrays = to_arrays(_added(collected, earlier) if earlier else collected)
    target = Path(work) / _FILE
    with disk_errors(target.parent), target.open("wb") as out:
        np.savez_compressed(out, **arrays)  # type: ignore[arg-type]  # its allow_pickle is a bool
    return Statistics(
        digest=digest,
        model=model,
        calibration=calibration,
        tensors=len(arrays["name"]),
        frames=used + (earlier[0].frames if earlier else 0),
        captures=1 + (earlier[0].captures if earlier else 0),
        extends=earlier[0].digest if earlier else None,
    )


def _added(collected: Iterable[TensorHistogram], earlier: Earlier) -> Iterator[TensorHistogram]:
    """Yield each histogram merged with the earlier one of its tensor."""
    known = {histogram.name: histogram for histogram in earlier[1]}
    for histogram in collected:
        if histogram.name not in known:
            raise CalibrationError(
                f"the earlier statistics have no tensor {histogram.name}", code="other_tensors"
            )
        yield merge(known[histogram.name], histogram)


def convert(
    blank: QuantizedModel,
    model_path: str,
    frames: Sequence[Tensors],
    *,
    work: str,
    quantizer: Quantizer,
) -> QuantizedModel:
    """Write work/model.onnx in a float precision, or as it was given.

    Args:
        blank: The record with its parents and recipe.
        model_path: The clean model's file.
        frames: A few frames, on which float16 must not overflow.
        work: Directory to write into.
        quantizer: Converts the graph.
    """
    target, recipe = str(Path(work) / "model.onnx"), blank.recipe
    if recipe.precision == AS_GIVEN:
        share, kept = quantizer.take_as_given(model_path, recipe.scheme or "", target)
        return replace(blank, int8_macs_fraction=share, kept_float=kept)
    return replace(
        blank, kept_float=quantizer.convert(model_path, recipe.precision, frames, target)
    )


def quantize(
    blank: QuantizedModel,
    histograms: Sequence[TensorHistogram],
    *,
    work: str,
    open_trial: Callable[[Collection[str]], QuantizationTrial],
) -> QuantizedModel:
    """Write work/model.onnx in INT8 by one calibrator, with the best steps for its weights.

    Args:
        blank: The record with its parents and recipe.
        histograms: Of every tensor to quantize.
        work: Directory to write into.
        open_trial: Opens a trial of the model, given the tensors that have a range.

    Raises:
        QuantizeError: "no_range" if no tensor has a range; "nothing_quantized" if no compute would
            run in INT8.
    """
    ranges = _ranges(histograms, blank.recipe)
    trial = open_trial(ranges.keys())
    layers = trial.layers().keys()
    steps = best_weight_steps(lambda steps: trial.weight_noise(layers, steps))
    placement = Placement(ranges=ranges, steps=steps)
    share, kept = trial.write(placement, str(Path(work) / "model.onnx"))
    return replace(blank, int8_macs_fraction=share, kept_float=kept, steps=(*blank.steps, *steps))


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
    histograms: Sequence[TensorHistogram], recipe: Recipe
) -> dict[str, tuple[float, float]]:
    """Return the range of every tensor that has one; others stay in float."""
    reasons = {h.name: defect(h) for h in histograms}
    sound = [h for h in histograms if not reasons[h.name]]
    if histograms and not sound:
        name, reason = next(iter(reasons.items()))
        raise QuantizeError(
            f"none of {len(histograms)} tensors has a range; {name}: {reason}",
            code="no_range",
            hint="look at the model's outputs on the calibration frames",
        )
    return {
        h.name: range_of(h, recipe.calibrator or "", is_symmetric(recipe.scheme)) for h in sound
    }
