"""Conditioning, statistics and quantization with their adapters, in a job's process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.choice.limits import AGREEMENT, SQNR
from agent.core.quantization.division import divide
from agent.core.records import (
    CalibrationSet,
    CleanModel,
    ConditionedModel,
    LayerSpeeds,
    MixedFront,
    QuantizedModel,
    Statistics,
)
from agent.jobs.comparison import comparison
from agent.jobs.frames import every_level, some_frames, tensors
from agent.jobs.trials import StoredFrames, divided_frames, trial_of
from agent.wire.jobs import (
    CollectStatistics,
    ConditionModel,
    FindFront,
    QuantizeModel,
)

if TYPE_CHECKING:
    from agent.core.quantization.histogram import TensorHistogram
    from agent.ports import Progress, QuantizationTrial

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
    few = divided_frames(config, model[0], calibration, most=_TRIED_FRAMES)
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
        StoredFrames(config, model[0], calibration),
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


def find_front(
    spec: FindFront,
    conditioned: tuple[ConditionedModel, Path],
    statistics: Path,
    model: CleanModel,
    calibration: tuple[CalibrationSet, Path],
    *,
    speeds: LayerSpeeds | None,
    progress: Progress,
) -> MixedFront:
    """Find the graphs of int8-mixed; `quantize` writes them."""
    from agent.core.search.target import Target
    from agent.stages.mixed import find_front as stage

    config, requirements = spec.config, spec.config.requirements
    frames = divided_frames(config, model, calibration, _JUDGING_FRAMES, judging=True)
    return stage(
        MixedFront(
            digest=spec.digest,
            model=spec.model,
            statistics=spec.statistics,
            members=(),
            calibrator="",
            steps=_without_refit(conditioned[0].weight_steps or ()),
            evaluations=0,
            layers=(),
            weighed_by=spec.weighed_by,
        ),
        Target.of(
            requirements.bound(SQNR),
            requirements.bound(AGREEMENT),
            comparison(config, model).has_metric,
        ),
        trial_of(config, conditioned[1], statistics, spec.scheme, frames),
        speeds=speeds,
        comparison=lambda: comparison(config, model),
        progress=progress,
    )


def quantize(
    spec: QuantizeModel,
    conditioned: tuple[ConditionedModel, Path],
    statistics: Path,
    model: CleanModel,
    calibration: tuple[CalibrationSet, Path],
    front: MixedFront | None = None,
) -> QuantizedModel:
    """Make an INT8 precision, by one calibrator or as a member of a front."""
    from agent.stages.mixed import write_member
    from agent.stages.quantize import quantize as plain

    config, blank = spec.config, replace(_blank(spec), steps=conditioned[0].steps)
    frames = divided_frames(config, model, calibration, _FEW_FRAMES, judging=True)
    scheme = blank.recipe.scheme or ""
    trial = trial_of(config, conditioned[1], statistics, scheme, frames, writes_only=True)
    if front:
        return write_member(blank, front, trial, work=spec.work)
    weight_steps = conditioned[0].weight_steps or ()
    if spec.kept:
        weight_steps = _without_refit(weight_steps)
    return plain(blank, weight_steps, trial, work=spec.work, kept=spec.kept)


def _without_refit(weight_steps: tuple[str, ...]) -> tuple[str, ...]:
    """Return the steps for a graph with layers in float: a refit is fitted to all in INT8."""
    from agent.core.quantization.mixed_search import REFIT

    return tuple(step for step in weight_steps if step != REFIT)


def _blank(spec: QuantizeModel) -> QuantizedModel:
    return QuantizedModel(
        digest=spec.digest,
        model=spec.model,
        statistics=spec.statistics,
        recipe=spec.recipe,
        weighed_by=spec.weighed_by,
    )
