"""The model made easier to quantize: steps that leave FP32 as it is, kept where INT8 gains."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.fidelity import Comparison
from agent.core.histogram import defect
from agent.core.lineage import ConditionedModel
from agent.core.precision import Placement, worst_sqnr_db
from agent.core.thresholds import range_of
from agent.disk import disk_errors
from agent.ports import Conditioner, Progress, Quantizer, Rehearsal

if TYPE_CHECKING:
    from agent.ports import Tensors

_JUDGED_BY = ("entropy", "mse")
"""Calibrators under which a step is judged, by the better: they clip by different rules."""
_EQUALIZATION = "equalization"


def condition(
    blank: ConditionedModel,
    model_path: str,
    frames: Sequence[Tensors],
    *,
    work: str,
    quantizer: Quantizer,
    conditioner: Conditioner,
    rehearse: Callable[[str, Collection[str]], Rehearsal],
    comparison: Callable[[], Comparison],
    progress: Progress,
) -> ConditionedModel:
    """Write work/model.onnx, equalized if INT8 is nearer to FP32 for it.

    Args:
        blank: The record with its parents, nothing done yet.
        model_path: The clean model's file.
        frames: A few of the calibration set; they are kept in memory.
        work: Directory to write into.
        quantizer: Counts what tensors hold.
        conditioner: Changes the graph.
        rehearse: Opens the rehearsal of a model file, given the tensors that have a range.
        comparison: Makes a fresh comparison with FP32.
        progress: Told after every trial.
    """
    target = Path(work) / "model.onnx"

    def judged(path: str) -> float:
        histograms = [h for h in quantizer.collect(path, frames, 0, _silent) if not defect(h)]
        rehearsal = rehearse(path, [h.name for h in histograms])
        symmetric = blank.scheme == "S8S8"
        found = [
            rehearsal.fidelity(
                Placement(ranges={h.name: range_of(h, name, symmetric) for h in histograms}),
                comparison(),
            )
            for name in _JUDGED_BY
        ]
        return max(worst_sqnr_db(one) for one in found)

    progress(0, 2, _EQUALIZATION)
    places = conditioner.equalize(model_path, frames, str(target))
    if not places:
        tried = f"{_EQUALIZATION}: no place where it would be exact"
        return _as_it_is(replace(blank, tried=(tried,)), model_path, target)
    before = judged(model_path)
    progress(1, 2, _EQUALIZATION)
    after = judged(str(target))
    progress(2, 2, _EQUALIZATION)
    tried = f"{_EQUALIZATION} at {places} places: INT8 from {before:.1f} to {after:.1f} dB"
    if after <= before:
        return _as_it_is(replace(blank, tried=(f"{tried}, not kept",)), model_path, target)
    return replace(blank, steps=(_EQUALIZATION,), tried=(tried,))


def _as_it_is(record: ConditionedModel, model_path: str, target: Path) -> ConditionedModel:
    with disk_errors(target.parent):
        shutil.copyfile(model_path, target)
    return record


def _silent(_done: int, _total: int, _note: str) -> None:
    """Trials are told as wholes."""
