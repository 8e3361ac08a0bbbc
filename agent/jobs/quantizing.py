"""Conditioning, statistics and quantization with their adapters, in a job's process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config
from agent.core.choice.limits import AGREEMENT, SQNR
from agent.core.quantization.division import Division, divide
from agent.core.records import (
    CalibrationSet,
    CleanModel,
    ConditionedModel,
    QuantizedModel,
    Statistics,
)
from agent.jobs.comparison import comparison
from agent.jobs.frames import every_level, some_frames, tensors
from agent.wire.jobs import (
    CollectStatistics,
    ConditionModel,
    QuantizeModel,
)

if TYPE_CHECKING:
    from agent.core.quantization.histogram import TensorHistogram
    from agent.graphs.calibrated import Calibrated
    from agent.ports import Progress, QuantizationTrial, Tensors
    from agent.stages.quantize import Histograms

_FEW_FRAMES = 8  # where only one question is asked
_TRIED_FRAMES = 16  # of each part, on which steps and weights are chosen
_MEAN_FRAMES = 4  # of thousands of positions each, while steps are tried
_JUDGING_FRAMES = 64


def condition(
    spec: ConditionModel,
    model: tuple[CleanModel, Path],
    calibration: tuple[CalibrationSet, Path],
    progress: Progress,
) -> ConditionedModel:
    """Run the condition stage."""
    from agent.adapters.graphs.conditioner import OnnxConditioner
    from agent.adapters.graphs.quantization_trial import (
        Fold,
        JudgingFrames,
        OnnxQuantizationTrial,
    )
    from agent.adapters.graphs.quantizer import OnnxQuantizer
    from agent.graphs.calibrated import Calibrated, input_means, load_weights
    from agent.graphs.qdq import load_inferred
    from agent.stages.condition import WEIGHTS
    from agent.stages.condition import condition as stage
    from agent.stages.refit import refit

    config, threads = spec.config, spec.config.runtime.threads
    path = str(model[1] / "model.onnx")
    few = _read(config, model[0], calibration, most=_TRIED_FRAMES)
    quantizer = OnnxQuantizer(threads, spec.scheme)
    judging = [JudgingFrames(few.parts[judged]) for _, judged in few.folds]

    def open_trial(
        made: str, fold: int, histograms: Sequence[TensorHistogram] | None, weights: str
    ) -> QuantizationTrial:
        if weights:
            source = Calibrated(histograms, *load_weights(weights, fold))
        else:
            means = input_means(load_inferred(made), few.frames_of(fold)[:_MEAN_FRAMES], threads)
            source = Calibrated(histograms, means=means)
        judged_on = judging[fold : fold + 1]  # none of what is made from all frames
        folds = [Fold(made_from=source, judged_on=frames) for frames in judged_on]
        return OnnxQuantizationTrial(made, spec.scheme, source, folds, threads, reference=path)

    found = stage(
        ConditionedModel(
            digest=spec.digest, model=spec.model, calibration=spec.calibration, scheme=spec.scheme
        ),
        path,
        few,
        _Stored(config, model[0], calibration),
        work=spec.work,
        quantizer=quantizer,
        conditioner=OnnxConditioner(threads, every_level(config, model[0])),
        open_trial=open_trial,
        comparison=lambda: comparison(config, model[0]),
        progress=progress,
    )
    if config.search.strategy == "fast":
        return found
    made, weights = (Path(spec.work, name) for name in ("model.onnx", WEIGHTS))

    def open_source(source: int) -> QuantizationTrial:
        collected = quantizer.collect(str(made), few.frames_of(source), 0, lambda *_: None)
        known = str(weights) if weights.exists() else ""
        return open_trial(str(made), source, tuple(collected), known)

    return refit(
        found,
        few,
        work=spec.work,
        open_trial=open_source,
        comparison=lambda: comparison(config, model[0]),
        progress=progress,
    )


def statistics(
    spec: CollectStatistics,
    conditioned: tuple[ConditionedModel, Path],
    model: CleanModel,
    calibration: tuple[CalibrationSet, Path],
    progress: Progress,
    extends: tuple[Statistics, Path] | None = None,
) -> Statistics:
    """Run the calibration pass."""
    from agent.adapters.graphs.quantizer import OnnxQuantizer
    from agent.stages.quantize import collect_statistics, load_statistics

    frames = calibration[0].frames
    return collect_statistics(
        conditioned[0].digest,
        str(conditioned[1] / "model.onnx"),
        [
            tensors(spec.config, model, calibration[1], part)
            for part in divide(frames).parts
            if part
        ],
        len(frames),
        digest=spec.digest,
        calibration=spec.calibration,
        work=spec.work,
        quantizer=OnnxQuantizer(spec.config.runtime.threads, conditioned[0].scheme),
        progress=progress,
        earlier=(extends[0], load_statistics(str(extends[1] / "statistics.npz")))
        if extends
        else None,
    )


def convert(
    spec: QuantizeModel,
    model: tuple[CleanModel, Path],
    calibration: tuple[CalibrationSet, Path],
) -> QuantizedModel:
    """Make a float precision, or take the model as it was given."""
    from agent.adapters.graphs.quantizer import OnnxQuantizer
    from agent.stages.quantize import convert as stage

    return stage(
        _blank(spec),
        str(model[1] / "model.onnx"),
        some_frames(spec.config, model[0], calibration[1], calibration[0].frames, _FEW_FRAMES),
        work=spec.work,
        quantizer=OnnxQuantizer(spec.config.runtime.threads),
    )


def quantize(
    spec: QuantizeModel,
    conditioned: tuple[ConditionedModel, Path],
    statistics: Path,
    model: CleanModel,
    calibration: tuple[CalibrationSet, Path],
    progress: Progress,
) -> QuantizedModel:
    """Make an INT8 precision, by one calibrator or with layers left in float."""
    from agent.adapters.graphs.quantization_trial import (
        Fold,
        JudgingFrames,
        OnnxQuantizationTrial,
    )
    from agent.core.quantization.mixed_search import REFIT
    from agent.core.search.target import Target
    from agent.graphs.calibrated import Calibrated, load_weights
    from agent.graphs.refit_file import load_refit
    from agent.stages.condition import WEIGHTS
    from agent.stages.mixed import mixed
    from agent.stages.quantize import load_statistics, merged
    from agent.stages.quantize import quantize as plain
    from agent.stages.refit import REFITTED

    config, blank = spec.config, replace(_blank(spec), steps=conditioned[0].steps)
    parts = load_statistics(str(statistics / "statistics.npz"))
    searched = blank.recipe.precision == "int8-mixed"
    most = _JUDGING_FRAMES if searched else _FEW_FRAMES
    frames = _read(config, model, calibration, most, judging=True)
    weights = conditioned[1] / WEIGHTS

    def calibrated(histograms: Histograms, source: int) -> Calibrated:
        known = load_weights(str(weights), source) if weights.exists() else ()  # else it failed
        return Calibrated(histograms, *known)

    folds = [
        Fold(
            made_from=calibrated(parts[made], source),
            judged_on=JudgingFrames(frames.parts[judged]),
        )
        for source, (made, judged) in enumerate(frames.folds)
    ]
    whole = calibrated(merged(parts), len(folds))
    weight_steps = conditioned[0].weight_steps or ()
    if REFIT in weight_steps:
        whole.refitted = load_refit(str(conditioned[1] / REFITTED))
    trial = OnnxQuantizationTrial(
        str(conditioned[1] / "model.onnx"),
        blank.recipe.scheme or "",
        whole,
        folds,
        config.runtime.threads,
    )
    if not searched:
        return plain(blank, weight_steps, trial, work=spec.work)
    requirements = config.requirements
    return mixed(
        blank,
        tuple(step for step in weight_steps if step != REFIT),  # it is fitted to all in INT8
        Target.of(
            requirements.bound(SQNR),
            requirements.bound(AGREEMENT),
            comparison(config, model).has_metric,
        ),
        trial,
        work=spec.work,
        comparison=lambda: comparison(config, model),
        progress=progress,
    )


def _read(
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


class _Stored:
    """Inputs for all calibration frames, read once more for each iteration."""

    def __init__(
        self, config: Config, model: CleanModel, calibration: tuple[CalibrationSet, Path]
    ) -> None:
        self._read = partial(tensors, config, model, calibration[1], calibration[0].frames)

    def __iter__(self) -> Iterator[Tensors]:
        return self._read()


def _blank(spec: QuantizeModel) -> QuantizedModel:
    return QuantizedModel(
        digest=spec.digest, model=spec.model, statistics=spec.statistics, recipe=spec.recipe
    )
