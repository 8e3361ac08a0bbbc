"""The calibrators by name; their functions are in `calibrators`, which needs numpy."""

from __future__ import annotations

CALIBRATORS = {
    "minmax": "the whole range of the values",
    "entropy": "the range that loses the least information about magnitudes (KL divergence)",
    "percentile": "99.99 % of the values",
    "mse": "the range with the smallest squared error",
}
"""What the INT8 range of a tensor is by each. One pass over the frames serves all of them."""

TRIED_CALIBRATORS = ("entropy", "mse")
"""Steps are judged by the one of these that is better without any; they clip differently."""
