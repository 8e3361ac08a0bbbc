"""Trials of INT8 graphs, and the calibration frames in their division, in a job's process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config
from agent.core.quantization.division import Division, divide
from agent.core.records import CalibrationSet, CleanModel
from agent.jobs.frames import some_frames, tensors

if TYPE_CHECKING:
    from agent.adapters.graphs.quantization_trial import OnnxQuantizationTrial
    from agent.graphs.calibrated import Calibrated
    from agent.ports import Tensors
    from agent.stages.quantize import Histograms


def trial_of(
    config: Config,
    conditioned: Path,
    statistics: Path,
    scheme: str,
    frames: Division[Tensors],
    *,
    writes_only: bool = False,
) -> OnnxQuantizationTrial:
    """Return trials of a conditioned model that judge it on frames.

    The weights of folds are not loaded for trials that will only write a graph.

    Raises:
        QuantizeError: "no_range" if there are tensors to quantize, and none has a range.
    """
    from agent.adapters.graphs import quantization_trial as trials
    from agent.graphs.calibrated import Calibrated, load_weights
    from agent.graphs.refit_file import load_refit
    from agent.stages.condition import WEIGHTS
    from agent.stages.quantize import load_statistics, merged
    from agent.stages.refit import REFITTED

    parts = load_statistics(str(statistics / "statistics.npz"))
    weights = conditioned / WEIGHTS

    def calibrated(histograms: Histograms, source: int) -> Calibrated:
        known = load_weights(str(weights), source) if weights.exists() else ()  # else it failed
        return Calibrated(histograms, *known)

    whole = calibrated(merged(parts), len(frames.folds))
    folds = [
        trials.Fold(
            made_from=whole if writes_only else calibrated(parts[made], source),
            judged_on=trials.JudgingFrames(frames.parts[judged]),
        )
        for source, (made, judged) in enumerate(frames.folds)
    ]
    if (refitted := conditioned / REFITTED).exists():
        whole.refitted = load_refit(str(refitted))
    return trials.OnnxQuantizationTrial(
        str(conditioned / "model.onnx"),
        scheme,
        whole,
        folds,
        config.runtime.threads,
    )


def divided_frames(
    config: Config,
    model: CleanModel,
    calibration: tuple[CalibrationSet, Path],
    most: int,
    *,
    judging: bool = False,
) -> Division[Tensors]:
    """Return inputs of both parts of the calibration frames, at most so many of each.

    A part that judges nothing is left empty if only `judging` frames are needed.
    """
    names = divide(calibration[0].frames)
    needed = {judged for _, judged in names.folds} if judging else {0, 1}
    first, second = (
        tuple(some_frames(config, model, calibration[1], part, most, share=len(needed)))
        if index in needed
        else ()
        for index, part in enumerate(names.parts)
    )
    return Division(parts=(first, second), folds=names.folds)


class StoredFrames:
    """Inputs for all calibration frames, read once more for each iteration."""

    def __init__(
        self, config: Config, model: CleanModel, calibration: tuple[CalibrationSet, Path]
    ) -> None:
        self._read = partial(tensors, config, model, calibration[1], calibration[0].frames)

    def __iter__(self) -> Iterator[Tensors]:
        return self._read()
