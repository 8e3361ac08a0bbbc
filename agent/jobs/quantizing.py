"""Intake, conditioning, statistics and quantization with their adapters, in a job's process."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.core.choice.limits import AGREEMENT, SQNR
from agent.core.frames.input_spec import resolved
from agent.core.frames.pixels import describe
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
from agent.jobs.frames import MOST_FRAMES, every_level, some_frames, tensors
from agent.wire.jobs import (
    CheckIntake,
    CleanGraph,
    CollectStatistics,
    ConditionModel,
    QuantizeModel,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.ports import Progress, QuantizationTrial

_FEW_FRAMES = 8  # where only one question is asked
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
    from agent.adapters.graphs.quantization_trial import OnnxQuantizationTrial
    from agent.adapters.graphs.quantizer import OnnxQuantizer
    from agent.stages.condition import condition as stage

    config, threads = spec.config, spec.config.runtime.threads
    path = str(model[1] / "model.onnx")
    few = some_frames(config, model[0], calibration, most=_FEW_FRAMES)
    return stage(
        ConditionedModel(
            digest=spec.digest, model=spec.model, calibration=spec.calibration, scheme=spec.scheme
        ),
        path,
        few,
        others=lambda: some_frames(config, model[0], calibration, _FEW_FRAMES, others=True),
        work=spec.work,
        quantizer=OnnxQuantizer(threads, spec.scheme),
        conditioner=OnnxConditioner(threads, every_level(config, model[0])),
        open_trial=lambda made, ranged: OnnxQuantizationTrial(
            made, spec.scheme, ranged, few, threads, reference=path
        ),
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
        tensors(spec.config, model, calibration[1], frames),
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
        some_frames(spec.config, model[0], calibration, most=_FEW_FRAMES),
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
    from agent.adapters.graphs.quantization_trial import OnnxQuantizationTrial
    from agent.stages.condition import WEIGHTS
    from agent.stages.mixed import Target, mixed
    from agent.stages.quantize import load_statistics
    from agent.stages.quantize import quantize as plain

    config, blank = spec.config, replace(_blank(spec), steps=conditioned[0].steps)
    histograms = load_statistics(str(statistics / "statistics.npz"))
    searched = blank.recipe.precision == "int8-mixed"
    few = some_frames(config, model, calibration, MOST_FRAMES if searched else _FEW_FRAMES)

    def open_trial(ranged: Collection[str]) -> QuantizationTrial:
        path, weights = str(conditioned[1] / "model.onnx"), conditioned[1] / WEIGHTS
        chosen = str(weights) if weights.exists() else ""  # older versions made none
        scheme, threads = blank.recipe.scheme or "", config.runtime.threads
        return OnnxQuantizationTrial(path, scheme, ranged, few, threads, weights=chosen)

    if not searched:
        return plain(blank, histograms, work=spec.work, open_trial=open_trial)
    requirements = config.requirements
    return mixed(
        blank,
        histograms,
        Target.of(
            requirements.bound(SQNR),
            requirements.bound(AGREEMENT),
            comparison(config, model).has_metric,
        ),
        work=spec.work,
        open_trial=open_trial,
        comparison=lambda: comparison(config, model),
        progress=progress,
    )


def _blank(spec: QuantizeModel) -> QuantizedModel:
    return QuantizedModel(
        digest=spec.digest, model=spec.model, statistics=spec.statistics, recipe=spec.recipe
    )
