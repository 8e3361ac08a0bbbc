"""Logits to probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LARGEST = 500.0  # of a logit: float64 has exp of it, and its sigmoid is 0 or 1 long before


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of each logit by itself."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -_LARGEST, _LARGEST))), np.float64)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities that add up to 1 along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float64)
