"""Refit of the conditioned model's layers, kept if INT8 improves on frames that it did not use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.errors import CalibrationError, ModelError, QuantizeError, RunnerError
from agent.core.fidelity.comparison import Comparison
from agent.core.quantization.calibrator_names import TRIED_CALIBRATORS
from agent.core.quantization.division import Division
from agent.core.quantization.mixed_search import REFIT, Placement
from agent.core.quantization.trial_results import best_of, is_better, is_decided
from agent.core.records import ConditionedModel
from agent.disk import disk_errors
from agent.ports import Progress, QuantizationTrial

if TYPE_CHECKING:
    from agent.ports import Tensors

_FAILURES = (CalibrationError, ModelError, QuantizeError, RunnerError)
OpenTrial = Callable[[int], QuantizationTrial]
"""Opens a trial that is made from one of `Division.sources`; all frames judge nothing."""
REFITTED = "refit.npz"
"""The refitted weights and biases, beside model.onnx."""


def refit(
    conditioned: ConditionedModel,
    few: Division[Tensors],
    *,
    work: str,
    open_trial: OpenTrial,
    comparison: Callable[[], Comparison],
    progress: Progress,
) -> ConditionedModel:
    """Write work/refit.npz if that improves INT8; return the record with the step and its outcome.

    Args:
        conditioned: The record of work/model.onnx.
        few: Some of the calibration frames.
        work: Directory of the model, to write into.
        open_trial: Opens a trial of it.
        comparison: Returns a new comparison with FP32.
        progress: Called after every layer.
    """
    steps, target = conditioned.weight_steps or (), Path(work, REFITTED)
    try:
        kept, outcome = _tried(few, steps, target, open_trial, comparison, progress)
    except _FAILURES as e:
        kept, outcome = False, f"failed, {e.message}"
    if not kept:
        with disk_errors(target.parent):
            target.unlink(missing_ok=True)
    return replace(
        conditioned,
        tried=(*conditioned.tried, f"{REFIT}: {outcome}"),
        weight_steps=(*steps, REFIT) if kept else steps,
    )


def _tried(
    few: Division[Tensors],
    steps: tuple[str, ...],
    target: Path,
    open_trial: OpenTrial,
    comparison: Callable[[], Comparison],
    progress: Progress,
) -> tuple[bool, str]:
    """Return whether the refit is better, then written from all frames, and the outcome in words.

    It is made under the ranges of the calibrator that is better without it, and serves those of the
    others: they gain nearly as much.
    """
    comparisons = {name: comparison() for name in (*TRIED_CALIBRATORS, REFIT)}
    calibrators: Sequence[str] = TRIED_CALIBRATORS
    for fold, _ in enumerate(few.folds):
        trial = open_trial(fold)
        plain = {
            name: trial.evaluate(Placement(calibrator=name, steps=steps), comparisons[name])
            for name in calibrators
        }
        calibrators = (best_of(plain),)  # of the first fold
        placement = Placement(calibrator=calibrators[0], steps=steps)
        layers = trial.refit(placement, few.frames_of(fold), str(target), progress)
        if not layers:
            return False, "no layer with enough positions on these frames"
        before = plain[placement.calibrator]
        refitted = replace(placement, steps=(*steps, REFIT))
        after = trial.evaluate(refitted, comparisons[REFIT])
        if is_decided(before, after):
            break
    outcome = f"{layers} layers: INT8 from {before} to {after}"
    if not is_better(after, before):
        return False, f"{outcome}, not kept"
    last = len(few.sources) - 1
    open_trial(last).refit(placement, few.frames_of(last), str(target), progress)
    return True, outcome
