"""Conditioning of the model for INT8: steps that don't change FP32, kept if INT8 improves."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.errors import CalibrationError, ModelError, QuantizeError, RunnerError
from agent.core.fidelity.comparison import Comparison
from agent.core.quantization.calibrators import range_of
from agent.core.quantization.histogram import defect
from agent.core.quantization.mixed_search import (
    BIAS_CORRECTION,
    WEIGHT_ROUNDING,
    Placement,
    is_symmetric,
)
from agent.core.quantization.trial_results import TrialResult, best_of, is_better
from agent.core.records import ConditionedModel
from agent.disk import disk_errors
from agent.ports import Conditioner, Progress, QuantizationTrial, Quantizer

if TYPE_CHECKING:
    from agent.ports import Tensors

_TRIED_CALIBRATORS = ("entropy", "mse")
"""A step is judged by the better of these, which clip differently."""
WEIGHTS = "weights.npz"
"""The chosen rounded weights, beside model.onnx."""


def condition(
    blank: ConditionedModel,
    model_path: str,
    frames: Sequence[Tensors],
    *,
    others: Callable[[], Sequence[Tensors]],
    work: str,
    quantizer: Quantizer,
    conditioner: Conditioner,
    open_trial: Callable[[str, Collection[str]], QuantizationTrial],
    comparison: Callable[[], Comparison],
    progress: Progress,
) -> ConditionedModel:
    """Write work/model.onnx with the steps that improve INT8, and weights.npz.

    Args:
        blank: The record with its parents and without steps.
        model_path: The clean model's file.
        frames: A few of the calibration set, on which steps are judged; they are kept in memory.
        others: Reads a few other frames if there are any. Weights are chosen on them, so that they
            are not judged on their own frames.
        work: Directory to write into.
        quantizer: Collects histograms.
        conditioner: Changes the graph.
        open_trial: Opens a trial that compares a model file with the clean model, given the tensors
            that have a range.
        comparison: Returns a new comparison with FP32.
        progress: Called before every trial.

    Raises:
        QuantizeError: "quantized_already" if the model is one of integers.
    """
    conditioner.check(model_path)

    def int8(path: str) -> TrialResult:
        collected = quantizer.collect(path, frames, 0, lambda *_: None)
        histograms = [h for h in collected if not defect(h)]
        trial = open_trial(path, [h.name for h in histograms])
        even = is_symmetric(blank.scheme)
        found = {}
        for name in _TRIED_CALIBRATORS:
            ranges = {h.name: range_of(h, name, even) for h in histograms}
            placement = Placement(ranges=ranges, steps=(BIAS_CORRECTION,))
            found[name] = trial.evaluate(placement, comparison())
        return found[best_of(found)]

    target, changed = (str(Path(work) / name) for name in ("model.onnx", "trial.onnx"))
    with disk_errors(Path(work)):
        shutil.copyfile(model_path, target)
    steps = conditioner.steps(blank.scheme)
    kept, tried = [], []
    before: TrialResult | None = None
    for index, step in enumerate(steps):
        progress(index, len(steps), step)
        try:
            places = conditioner.apply(step, target, frames, changed)
            before = int8(target) if before is None and places else before
            after = int8(changed) if places else None
        except (CalibrationError, ModelError, QuantizeError, RunnerError) as e:
            tried.append(f"{step}: failed, {e.message}")  # the model can be quantized without it
            continue
        if after is None or before is None:
            tried.append(f"{step}: no place where it would be exact")
            continue
        improved = is_better(after, before)
        outcome = f"{step} at {places} places: INT8 from {before} to {after}"
        tried.append(outcome if improved else f"{outcome}, not kept")
        if improved:
            kept.append(step)
            before = after
            Path(changed).replace(target)
    Path(changed).unlink(missing_ok=True)
    weights = str(Path(work) / WEIGHTS)
    try:
        chosen, layers = conditioner.choose_weights(target, others(), weights, progress)
    except CalibrationError as e:  # weights are then rounded to the nearest codes
        tried.append(f"{WEIGHT_ROUNDING}: failed, {e.message}")
    else:
        tried.append(f"{WEIGHT_ROUNDING}: weights of {chosen} of {layers} layers chosen by it")
    return replace(blank, steps=tuple(kept), tried=tuple(tried))
