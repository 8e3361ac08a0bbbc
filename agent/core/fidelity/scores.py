"""Outputs as scores, and what is undecided in them; shared by the metrics of tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.fidelity.box_decoding import Outputs

CUTS = (0.5, 0.0)
"""Thresholds of probabilities, of logits."""
ROUNDING = 2.0**-10
"""Share of a value: float16 rounds each of two values by up to 2**-11 of it."""


def first_output(outputs: Outputs) -> NDArray[Any]:
    """Return the first output, the only one that counts."""
    return next(iter(outputs.values()))


def score_rows(scores: NDArray[Any]) -> NDArray[Any]:
    """Return shape (rows, classes): (1, 1000, 1, 1) is one row of 1000, (n, 1) n rows of one."""
    if scores.ndim < 2:
        return scores.reshape(1, -1)
    sizes = [size for size in scores.shape[1:] if size != 1]
    return scores.reshape(-1, sizes[-1] if sizes else 1)


def rounding(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return by how much two values can seem to differ when each is rounded to float16."""
    return ROUNDING * np.abs(values.astype(np.float64))


def within_one(values: NDArray[Any]) -> bool:
    """Return whether all values are in 0..1, as probabilities are."""
    return bool(values.min() >= 0 and values.max() <= 1)
