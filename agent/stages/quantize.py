"""Statistics of the calibration frames, and the model in the precision of a recipe."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.core.errors import CalibrationError, QuantizeError
from agent.core.quantization.histogram import TensorHistogram, defect, from_arrays, merge, to_arrays
from agent.core.quantization.mixed_search import Placement
from agent.core.records import AS_GIVEN, Digest, QuantizedModel, Statistics
from agent.disk import disk_errors
from agent.ports import Progress, QuantizationTrial, Quantizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.ports import Tensors

_FILE = "statistics.npz"
Histograms = tuple[TensorHistogram, ...]
Earlier = tuple[Statistics, Sequence[Histograms]]


def collect_statistics(
    model: Digest,
    model_path: str,
    parts: Sequence[Iterable[Tensors]],
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
        parts: The model's inputs in the parts of their division, one frame at a time; read once.
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
    used, arrays, tensors = 0, {}, 0

    def counted(frames: Iterable[Tensors]) -> Iterator[Tensors]:
        nonlocal used
        for frame in frames:
            yield frame
            used += 1

    def reported(_done: int, total: int, note: str, _candidate: str = "") -> None:
        progress(used + 1, total, note)  # of all parts; a frame counts once the next one is read

    for index, frames in enumerate(parts):
        collected = quantizer.collect(model_path, counted(frames), count, reported)
        if earlier and index < len(earlier[1]):
            collected = _added(collected, earlier[1][index])
        found = to_arrays(collected)
        tensors = len(found["name"])
        arrays.update({f"{index}.{key}": values for key, values in found.items()})
    target = Path(work) / _FILE
    with disk_errors(target.parent), target.open("wb") as out:
        np.savez_compressed(out, **arrays)  # type: ignore[arg-type]  # its allow_pickle is a bool
    return Statistics(
        digest=digest,
        model=model,
        calibration=calibration,
        tensors=tensors,
        frames=used + (earlier[0].frames if earlier else 0),
        captures=1 + (earlier[0].captures if earlier else 0),
        extends=earlier[0].digest if earlier else None,
    )


def _added(collected: Iterable[TensorHistogram], earlier: Histograms) -> Iterator[TensorHistogram]:
    """Yield each histogram merged with the earlier one of its tensor."""
    known = {histogram.name: histogram for histogram in earlier}
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
    weight_steps: tuple[str, ...],
    trial: QuantizationTrial,
    *,
    work: str,
    kept: Collection[str] = (),
) -> QuantizedModel:
    """Write work/model.onnx in INT8 by one calibrator.

    Args:
        blank: The record with its parents and recipe.
        weight_steps: Applied to the weights of its layers.
        trial: Of the conditioned model.
        work: Directory to write into.
        kept: Layers that stay in float because INT8 is slower there.

    Raises:
        QuantizeError: "nothing_quantized" if no compute would run in INT8.
    """
    placement = Placement(
        calibrator=blank.recipe.calibrator or "", kept=frozenset(kept), steps=weight_steps
    )
    share, floating = trial.write(placement, str(Path(work) / "model.onnx"))
    steps = (*blank.steps, *weight_steps)
    return replace(blank, int8_macs_fraction=share, kept_float=floating, steps=steps)


def load_statistics(path: str) -> tuple[Histograms, ...]:
    """Read a statistics.npz: the histograms of each part of the frames.

    Raises:
        CalibrationError: "damaged" if it is not one.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            parts: dict[str, dict[str, NDArray[Any]]] = {"0": {}}
            for key in arrays.files:
                part, _, name = key.partition(".")
                parts.setdefault(part, {})[name] = arrays[key]
            return tuple(from_arrays(parts[part]) for part in sorted(parts))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
        raise CalibrationError(f"{path}: {e}", code="damaged", hint="run the capture again") from e


def merged(parts: Sequence[Histograms]) -> Histograms:
    """Return the histograms of all frames.

    Raises:
        QuantizeError: "no_range" if there are tensors to quantize, and none has a range.
    """
    whole = tuple(reduce(merge, histograms) for histograms in zip(*parts, strict=True))
    reasons = {h.name: defect(h) for h in whole}
    if whole and all(reasons.values()):
        name, reason = next(iter(reasons.items()))
        raise QuantizeError(
            f"none of {len(whole)} tensors has a range; {name}: {reason}",
            code="no_range",
            hint="look at the model's outputs on the calibration frames",
        )
    return whole
