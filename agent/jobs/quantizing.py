"""Intake, conditioning, statistics and quantization with their adapters, in a job's process."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config
from agent.core.choice.limits import AGREEMENT, SQNR
from agent.core.records import (
    CalibrationSet,
    CleanModel,
    ConditionedModel,
    Digest,
    QuantizedModel,
    Statistics,
)
from agent.jobs.comparison import comparison
from agent.jobs.frames import MOST_FRAMES, every_level, input_spec, some_frames, tensors

if TYPE_CHECKING:
    from agent.ports import Progress, QuantizationTrial

_FEW_FRAMES = 8  # where only one question is asked


def intake(config: Config, sha256: str, digest: Digest, work: str) -> CleanModel:
    """Write the graph of the model file, of this sha256, to work/model.onnx.

    Raises:
        ModelError: naming what is wrong with the file and what to do.
    """
    from agent.adapters.graphs.intake import OnnxIntake

    clean = OnnxIntake().clean(config.model.path, config.model.name, input_spec(config), work)
    return replace(clean, digest=digest, sha256=sha256)


def condition(
    config: Config,
    blank: ConditionedModel,
    model: tuple[CleanModel, Path],
    calibration: tuple[CalibrationSet, Path],
    *,
    work: str,
    progress: Progress,
) -> ConditionedModel:
    """Run the condition stage."""
    from agent.adapters.graphs.conditioner import OnnxConditioner
    from agent.adapters.graphs.quantization_trial import OnnxQuantizationTrial
    from agent.adapters.graphs.quantizer import OnnxQuantizer
    from agent.stages.condition import condition as stage

    threads = config.runtime.threads
    path = str(model[1] / "model.onnx")
    few = some_frames(config, model[0], calibration, most=_FEW_FRAMES)
    return stage(
        blank,
        path,
        few,
        others=lambda: some_frames(config, model[0], calibration, _FEW_FRAMES, others=True),
        work=work,
        quantizer=OnnxQuantizer(threads, blank.scheme),
        conditioner=OnnxConditioner(threads, every_level(config, model[0])),
        open_trial=lambda made, ranged: OnnxQuantizationTrial(
            made, blank.scheme, ranged, few, threads, reference=path
        ),
        comparison=lambda: comparison(config),
        progress=progress,
    )


def statistics(
    config: Config,
    conditioned: tuple[ConditionedModel, Path],
    model: CleanModel,
    calibration: tuple[CalibrationSet, Path],
    *,
    digest: Digest,
    work: str,
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
        tensors(config, model, calibration[1], frames),
        len(frames),
        digest=digest,
        calibration=calibration[0].digest,
        work=work,
        quantizer=OnnxQuantizer(config.runtime.threads, conditioned[0].scheme),
        progress=progress,
        earlier=(extends[0], load_statistics(str(extends[1] / "statistics.npz")))
        if extends
        else None,
    )


def convert(
    config: Config,
    blank: QuantizedModel,
    model: tuple[CleanModel, Path],
    calibration: tuple[CalibrationSet, Path],
    *,
    work: str,
) -> QuantizedModel:
    """Make a float precision."""
    from agent.adapters.graphs.quantizer import OnnxQuantizer
    from agent.stages.quantize import convert as stage

    return stage(
        blank,
        str(model[1] / "model.onnx"),
        some_frames(config, model[0], calibration, most=_FEW_FRAMES),
        work=work,
        quantizer=OnnxQuantizer(config.runtime.threads),
    )


def quantize(
    config: Config,
    blank: QuantizedModel,
    conditioned: Path,
    statistics: Path,
    model: CleanModel,
    calibration: tuple[CalibrationSet, Path],
    *,
    work: str,
    progress: Progress,
) -> QuantizedModel:
    """Make an INT8 precision, by one calibrator or with layers left in float."""
    from agent.adapters.graphs.quantization_trial import OnnxQuantizationTrial
    from agent.stages.condition import WEIGHTS
    from agent.stages.mixed import Target, mixed
    from agent.stages.quantize import load_statistics
    from agent.stages.quantize import quantize as plain

    histograms = load_statistics(str(statistics / "statistics.npz"))
    searched = blank.recipe.precision == "int8-mixed"
    few = some_frames(config, model, calibration, MOST_FRAMES if searched else _FEW_FRAMES)

    def open_trial(ranged: Collection[str]) -> QuantizationTrial:
        path, weights = str(conditioned / "model.onnx"), conditioned / WEIGHTS
        chosen = str(weights) if weights.exists() else ""  # older versions made none
        scheme, threads = blank.recipe.scheme or "", config.runtime.threads
        return OnnxQuantizationTrial(path, scheme, ranged, few, threads, weights=chosen)

    if not searched:
        return plain(blank, histograms, work=work, open_trial=open_trial)
    requirements = config.requirements
    return mixed(
        blank,
        histograms,
        Target.of(
            requirements.bound(SQNR),
            requirements.bound(AGREEMENT),
            comparison(config).has_metric,
        ),
        work=work,
        open_trial=open_trial,
        comparison=lambda: comparison(config),
        progress=progress,
    )
