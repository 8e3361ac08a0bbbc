"""Conditioning of the model for INT8: steps that don't change FP32, kept if INT8 improves."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.errors import CalibrationError, ModelError, QuantizeError, RunnerError
from agent.core.fidelity.comparison import Comparison
from agent.core.quantization.calibrator_names import TRIED_CALIBRATORS
from agent.core.quantization.division import Division
from agent.core.quantization.histogram import TensorHistogram
from agent.core.quantization.mixed_search import (
    BIAS_CORRECTION,
    WEIGHT_ROUNDING,
    Placement,
    best_weight_steps,
)
from agent.core.quantization.trial_results import TrialResult, best_of, is_better, is_decided
from agent.core.records import ConditionedModel
from agent.disk import disk_errors
from agent.ports import Conditioner, Progress, QuantizationTrial, Quantizer

if TYPE_CHECKING:
    from agent.ports import Tensors

_FAILURES = (CalibrationError, ModelError, QuantizeError, RunnerError)
WEIGHTS = "weights.npz"
"""The chosen rounded weights, beside model.onnx."""
Steps = tuple[str, ...]
OpenTrial = Callable[[str, int, Sequence[TensorHistogram] | None, str], QuantizationTrial]
"""Opens a trial of a model file that is compared with the clean model.

The others are the index in `Division.sources` of the frames that INT8 is made from (all frames
judge nothing), their histograms (None if no activation will be quantized), and the file of chosen
weights ("" for none).
"""


def condition(
    blank: ConditionedModel,
    model_path: str,
    few: Division[Tensors],
    frames: Iterable[Tensors],
    *,
    work: str,
    quantizer: Quantizer,
    conditioner: Conditioner,
    open_trial: OpenTrial,
    comparison: Callable[[], Comparison],
    progress: Progress,
) -> ConditionedModel:
    """Write work/model.onnx with the steps that improve INT8, and weights.npz.

    A step is judged on frames that it was not made from, then made once more from all of them.

    Args:
        blank: The record with its parents and without steps.
        model_path: The clean model's file.
        few: Some of the calibration frames, on which steps and weights are chosen; they are kept in
            memory.
        frames: All of them; read once for each step that is kept.
        work: Directory to write into.
        quantizer: Collects histograms.
        conditioner: Changes the graph.
        open_trial: Opens a trial.
        comparison: Returns a new comparison with FP32.
        progress: Called before every trial.

    Raises:
        QuantizeError: "quantized_already" if the model is one of integers.
    """
    conditioner.check(model_path)
    target, changed = (str(Path(work) / name) for name in ("model.onnx", "changed.onnx"))
    with disk_errors(Path(work)):
        shutil.copyfile(model_path, target)
    trials = _Trials(
        model_path,
        few,
        work=Path(work),
        quantizer=quantizer,
        conditioner=conditioner,
        open_trial=open_trial,
        comparison=comparison,
    )
    steps = conditioner.steps(blank.scheme)
    kept: Steps = ()
    tried = []
    for index, step in enumerate(steps):
        progress(index, len(steps), step)
        try:
            _, places = trials.graph((*kept, step))
            if not places:
                tried.append(f"{step}: no place where it would be exact")
                continue
            before, after = trials.compare(kept, (*kept, step))
            outcome = f"{step} at {places} places: INT8 from {before} to {after}"
            improved = is_better(after, before)
            if improved and conditioner.apply(step, target, frames, changed):
                Path(changed).replace(target)
        except _FAILURES as e:
            tried.append(f"{step}: failed, {e.message}")  # the model can be quantized without it
            continue
        tried.append(outcome if improved else f"{outcome}, not kept")
        if improved:
            kept = (*kept, step)
    for path in Path(work).glob("*.fold*"):
        path.unlink()
    weights = str(Path(work) / WEIGHTS)
    weight_steps: tuple[str, ...] = ()
    try:
        chosen, layers = conditioner.choose_weights(target, few, weights, progress)
        trial = open_trial(target, 0, None, weights)
        names = trial.layers().keys()
        weight_steps = best_weight_steps(lambda steps: trial.weight_noise(names, steps))
    except _FAILURES as e:  # weights are then rounded to the nearest codes
        tried.append(f"{WEIGHT_ROUNDING}: failed, {e.message}")
    else:
        tried.append(f"{WEIGHT_ROUNDING}: weights of {chosen} of {layers} layers chosen by it")
    return replace(blank, steps=kept, tried=tuple(tried), weight_steps=weight_steps)


class _Trials:
    """The model with some steps in INT8: made and judged fold by fold, as far as it is needed.

    Args:
        model: The clean model's file.
        few: The frames.
        work: Directory for the graphs.
        quantizer: Collects histograms.
        conditioner: Changes the graph.
        open_trial: Opens a trial.
        comparison: Returns a new comparison with FP32.
    """

    def __init__(
        self,
        model: str,
        few: Division[Tensors],
        *,
        work: Path,
        quantizer: Quantizer,
        conditioner: Conditioner,
        open_trial: OpenTrial,
        comparison: Callable[[], Comparison],
    ) -> None:
        self._few = few
        self._work = work
        self._quantizer = quantizer
        self._conditioner = conditioner
        self._open_trial = open_trial
        self._comparison = comparison
        self._graphs: dict[tuple[Steps, int], tuple[str, int]] = {
            ((), fold): (model, 0) for fold, _ in enumerate(few.folds)
        }
        self._comparisons: dict[tuple[Steps, str], Comparison] = {}
        self._results: dict[tuple[Steps, int], TrialResult] = {}
        self._calibrator = ""  # until the first result

    def graph(self, steps: Steps, fold: int = 0) -> tuple[str, int]:
        """Return the graph made from a fold's frames, and how many places the last step changed."""
        key = steps, fold
        if key not in self._graphs:
            before, _ = self.graph(steps[:-1], fold)
            target = str(self._work / f"{'-'.join(steps)}.fold{fold}")
            places = self._conditioner.apply(steps[-1], before, self._made_from(fold), target)
            self._graphs[key] = target if places else before, places
        return self._graphs[key]

    def compare(self, before: Steps, after: Steps) -> tuple[TrialResult, TrialResult]:
        """Return the results of both over the same folds: until one is better beyond chance."""
        for fold, _ in enumerate(self._few.folds):
            found = self._result(before, fold), self._result(after, fold)
            if is_decided(*found):
                break
        return found

    def _made_from(self, fold: int) -> Sequence[Tensors]:
        return self._few.parts[self._few.folds[fold][0]]

    def _result(self, steps: Steps, fold: int) -> TrialResult:
        """Return how near INT8 is to FP32 over the folds up to one."""
        key = steps, fold
        if key not in self._results:
            earlier = self._results.get((steps, fold - 1))
            if earlier is not None and earlier.fidelity is None:
                return earlier  # its outputs were not finite
            graph, _ = self.graph(steps, fold)
            collected = self._quantizer.collect(graph, self._made_from(fold), 0, lambda *_: None)
            trial = self._open_trial(graph, fold, tuple(collected), "")
            names = (self._calibrator,) if self._calibrator else TRIED_CALIBRATORS
            found = {name: self._evaluated(trial, steps, name) for name in names}
            self._calibrator = best_of(found)
            self._results[key] = found[self._calibrator]
        return self._results[key]

    def _evaluated(self, trial: QuantizationTrial, steps: Steps, calibrator: str) -> TrialResult:
        placement = Placement(calibrator=calibrator, steps=(BIAS_CORRECTION,))
        judge = self._comparisons.setdefault((steps, calibrator), self._comparison())
        return trial.evaluate(placement, judge)
