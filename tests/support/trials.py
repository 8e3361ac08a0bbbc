"""Trials of INT8 graphs that are made from the frames that judge them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from agent.adapters.graphs.conditioner import OnnxConditioner
from agent.adapters.graphs.quantization_trial import Fold, JudgingFrames, OnnxQuantizationTrial
from agent.core.quantization.division import Division
from agent.core.quantization.histogram import BINS, TensorHistogram
from agent.graphs.calibrated import Calibrated, input_means, load_weights
from agent.graphs.qdq import load_inferred


def together(frames: Sequence[Any]) -> Division[Any]:
    """Return frames that are not divided."""
    return Division(parts=(tuple(frames), ()), folds=((0, 0),))


def trial_of(
    model: str,
    scheme: str,
    histograms: Iterable[TensorHistogram],
    frames: Sequence[Any],
    *,
    weights: str = "",
) -> OnnxQuantizationTrial:
    """Open a trial; with a file to write, weights are chosen on the frames too."""
    if weights:
        OnnxConditioner(1).choose_weights(model, together(frames), weights, lambda *_: None)
        source = Calibrated(histograms, *load_weights(weights))
    else:
        means = input_means(load_inferred(model), frames, 1) if frames else {}
        source = Calibrated(histograms, means=means)
    folds = [Fold(made_from=source, judged_on=JudgingFrames(frames))]
    return OnnxQuantizationTrial(model, scheme, source, folds, 1)


def flat(name: str) -> TensorHistogram:
    """Return the histogram of a tensor with values from -1 to 1."""
    counts = np.ones(2 * BINS, np.int64)
    return TensorHistogram(
        name=name, minimum=-1.0, maximum=1.0, exponent=0, counts=counts, count=int(counts.sum())
    )
