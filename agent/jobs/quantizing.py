"""Intake, conditioning, statistics and quantization with their adapters, in a job's process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.config import Config
from agent.core.choice.limits import AGREEMENT, SQNR
from agent.core.frames.input_spec import resolved
from agent.core.frames.pixels import describe
from agent.core.quantization.division import Division, divide
from agent.core.records import (
    CalibrationSet,
    CheckedIntake,
    CleanModel,
    ConditionedModel,
    QuantizedModel,
    Statistics,
)
from agent.core.setup.contradictions import contradictions
from agent.jobs.comparison import comparison, user_metric
from agent.jobs.frames import every_level, some_frames, tensors
from agent.wire.jobs import (
    CheckIntake,
    CleanGraph,
    CollectStatistics,
    ConditionModel,
    QuantizeModel,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.core.quantization.histogram import TensorHistogram
    from agent.graphs.calibrated import Calibrated
    from agent.ports import Progress, QuantizationTrial, Tensors
    from agent.stages.quantize import Histograms

_FEW_FRAMES = 8  # where only one question is asked
_TRIED_FRAMES = 16  # of each part, on which steps and weights are chosen
_MEAN_FRAMES = 4  # of thousands of positions each, while steps are tried
_JUDGING_FRAMES = 64
_CHECKED_FRAMES = 4
_CHECKED_MACS = 20_000_000_000  # a few seconds of a small board's CPU, for the frames of one graph
_SUSPICIOUS_FRAMES = 32
_SUSPICIOUS_MACS = 5 * _CHECKED_MACS  # half a minute, before a search that would be for nothing
_CHECKED_BYTES = 96_000_000  # of outputs that are kept until the other graph gives its own


def intake(spec: CleanGraph) -> CleanModel:
    """Write the graph of the model file to the folder of the job.

    Raises:
        ModelError: naming what is wrong with the file and what to do.
    """
    from agent.adapters.graphs.intake import OnnxIntake

    model = spec.config.model
    clean = OnnxIntake().clean(model.path, model.name, model.input.spec, spec.work)
    return replace(clean, digest=spec.digest, sha256=spec.sha256)


def check_intake(
    spec: CheckIntake,
    model: tuple[CleanModel, Path],
    calibration: tuple[CalibrationSet, Path],
    progress: Progress,
) -> CheckedIntake:
    """Run the check of the intake, on the frames of a few seconds of computing.

    Raises:
        ModelError: "intake_differs", naming the output and the frame; "not_finite".
        ConfigError: "decode" if a detector's numbers can't be boxes and scores; if the user's
            metric can't be loaded.
        RunnerError: "user_metric" if that returns anything but a number 0..1.
    """
    from agent.adapters.graphs.as_written import outputs_as_written, rounds_by_itself
    from agent.adapters.graphs.looking import look_into
    from agent.core.fidelity.plausibility import Plausibility
    from agent.core.fidelity.sameness import COARSE_TOLERANCE, TOLERANCE
    from agent.graphs.integers import GIVEN
    from agent.stages.check_intake import check_intake as stage

    config, clean, task = spec.config, model[0], spec.config.model.task
    coarse = rounds_by_itself(config.model.path)
    given = model[1] / GIVEN  # of a quantized file; beside it is FP32, which rounds less
    outputs = 4 * sum(prod(tensor.shape) for tensor in clean.outputs) or 1
    macs = max(clean.macs, 1)
    most = min(_CHECKED_FRAMES, _CHECKED_MACS // macs, _CHECKED_BYTES // outputs)
    others = min(_SUSPICIOUS_FRAMES, _SUSPICIOUS_MACS // macs)

    def outputs_of(path: str, names: Sequence[str]) -> Iterator[Mapping[str, NDArray[Any]]]:
        frames = tensors(config, clean, calibration[1], tuple(names))
        return outputs_as_written(path, frames, config.runtime.threads)

    fed = resolved(config.model.input.spec, clean.inputs[0].shape)
    stated = contradictions(look_into(Path(config.model.path), inferred=False), fed)
    found = stage(
        CheckedIntake(
            digest=spec.digest,
            model=spec.model,
            calibration=spec.calibration,
            tolerance=COARSE_TOLERANCE if coarse else TOLERANCE,
        ),
        calibration[0].frames[: max(most, 1)],
        file=partial(outputs_of, config.model.path),
        graph=partial(outputs_of, str(given if given.exists() else model[1] / "model.onnx")),
        ranked=clean.ranked,
        coarse=coarse,
        progress=progress,
        plausibility=Plausibility(task.kind, task.decoding, user_metric(task.kind)),
        others=calibration[0].holdout[: max(others, 1)],
        fed=describe(fed),
    )
    return replace(found, doubts=(*stated, *found.doubts))


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
    from agent.stages.condition import condition as stage

    config, threads = spec.config, spec.config.runtime.threads
    path = str(model[1] / "model.onnx")
    few = _read(config, model[0], calibration, most=_TRIED_FRAMES)
    judging = [JudgingFrames(few.parts[judged]) for _, judged in few.folds]

    def open_trial(
        made: str, fold: int, histograms: Sequence[TensorHistogram] | None, weights: str
    ) -> QuantizationTrial:
        if weights:
            source = Calibrated(histograms, *load_weights(weights, fold))
        else:
            made_from = few.parts[few.folds[fold][0]]
            means = input_means(load_inferred(made), made_from[:_MEAN_FRAMES], threads)
            source = Calibrated(histograms, means=means)
        folds = [Fold(made_from=source, judged_on=judging[fold])]
        return OnnxQuantizationTrial(made, spec.scheme, source, folds, threads, reference=path)

    return stage(
        ConditionedModel(
            digest=spec.digest, model=spec.model, calibration=spec.calibration, scheme=spec.scheme
        ),
        path,
        few,
        _Stored(config, model[0], calibration),
        work=spec.work,
        quantizer=OnnxQuantizer(threads, spec.scheme),
        conditioner=OnnxConditioner(threads, every_level(config, model[0])),
        open_trial=open_trial,
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
    from agent.core.search.target import Target
    from agent.graphs.calibrated import Calibrated, load_weights
    from agent.stages.condition import WEIGHTS
    from agent.stages.mixed import mixed
    from agent.stages.quantize import load_statistics, merged
    from agent.stages.quantize import quantize as plain

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
    trial = OnnxQuantizationTrial(
        str(conditioned[1] / "model.onnx"),
        blank.recipe.scheme or "",
        calibrated(merged(parts), len(folds)),
        folds,
        config.runtime.threads,
    )
    weight_steps = conditioned[0].weight_steps or ()
    if not searched:
        return plain(blank, weight_steps, trial, work=spec.work)
    requirements = config.requirements
    return mixed(
        blank,
        weight_steps,
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
