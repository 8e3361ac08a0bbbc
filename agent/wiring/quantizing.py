"""Conditioning, statistics and quantization with their adapters; each runs in a job's process."""

from __future__ import annotations

from collections.abc import Collection
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config
from agent.core.lineage import (
    CalibrationSet,
    CleanModel,
    ConditionedModel,
    Digest,
    QuantizedModel,
    Statistics,
)
from agent.wiring.comparison import comparison
from agent.wiring.heavy import every_level, tensors

if TYPE_CHECKING:
    from agent.ports import Progress, Rehearsal, Tensors

_FRAMES_BYTES = 96_000_000  # for inputs and FP32 outputs of the frames that try INT8 graphs
_FEWEST_FRAMES = 4
_MOST_FRAMES = 64
_FEW_FRAMES = 8  # where only one question is asked


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
    from agent.adapters.conditioner_onnx import OnnxConditioner
    from agent.adapters.quantizer_onnx import OnnxQuantizer
    from agent.adapters.rehearsal_onnx import OnnxRehearsal
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
        rehearse=lambda made, ranged: OnnxRehearsal(
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
    from agent.adapters.quantizer_onnx import OnnxQuantizer
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
    from agent.adapters.quantizer_onnx import OnnxQuantizer
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
    from agent.adapters.rehearsal_onnx import OnnxRehearsal
    from agent.stages.condition import WEIGHTS
    from agent.stages.mixed import Target, mixed
    from agent.stages.quantize import load_statistics
    from agent.stages.quantize import quantize as plain

    histograms = load_statistics(str(statistics / "statistics.npz"))
    searched = blank.recipe.precision == "int8-mixed"
    few = some_frames(config, model, calibration, _MOST_FRAMES if searched else _FEW_FRAMES)

    def rehearse(ranged: Collection[str]) -> Rehearsal:
        path, weights = str(conditioned / "model.onnx"), conditioned / WEIGHTS
        chosen = str(weights) if weights.exists() else ""  # older versions made none
        scheme, threads = blank.recipe.scheme or "", config.runtime.threads
        return OnnxRehearsal(path, scheme, ranged, few, threads, weights=chosen)

    if not searched:
        return plain(blank, histograms, work=work, rehearse=rehearse)
    limits = config.limits
    return mixed(
        blank,
        histograms,
        Target.of(limits.sqnr_db, limits.agreement, comparison(config).has_metric),
        work=work,
        rehearse=rehearse,
        comparison=lambda: comparison(config),
        progress=progress,
    )


def some_frames(
    config: Config,
    model: CleanModel,
    calibration: tuple[CalibrationSet, Path],
    most: int = _MOST_FRAMES,
    *,
    others: bool = False,
) -> list[Tensors]:
    """Return inputs spread over the calibration frames, as many as memory allows.

    Args:
        config: The effective configuration.
        model: What takes them.
        calibration: The set, and where its frames lie.
        most: At most this many.
        others: True for those that lie between, as far as there are any.
    """
    outputs = 4 * sum(prod(tensor.shape) for tensor in model.outputs)
    inputs = 4 * sum(prod(tensor.shape) for tensor in model.inputs)
    count = max(_FEWEST_FRAMES, min(most, _FRAMES_BYTES // (inputs + outputs)))
    names = calibration[0].frames
    step = max(len(names) // count, 1)
    spread = names[step // 2 if others else 0 :: step][:count]
    return list(tensors(config, model, calibration[1], spread))
