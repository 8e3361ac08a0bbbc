"""Rounding of weights that minimises the error of a layer's output.

The squared error at the output is e^T M e for each output channel, with e the rounding errors of
its weights and M the second moment of their inputs. Neighbouring pixels are correlated, so M is far
from diagonal: errors that cancel cost little, and if all nearest codes err to one side, rounding
one of them the other way reduces the error.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_LARGEST = 127
_DAMPING = 0.01  # of the mean of the diagonal, for inputs that the sample does not contain
_SWEEPS = 8
_BLOCK = 64  # weights whose effect on the other blocks is applied at once


def round_weights(
    weights: NDArray[np.float64], scales: NDArray[np.float64], moment: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return integer codes that nearly minimise the error at the output.

    Coordinate descent from the nearest codes: each weight in turn gets the code that is best while
    the others are fixed, until none changes. The error never grows. The largest weight of each
    channel is fixed, since it defines the scale.

    Args:
        weights: Shape (output channels, k), one row per scale.
        scales: Of each row, shape (output channels,), > 0.
        moment: E[x x^T] of the k inputs of a weight row, shape (k, k); their covariance if a bias
            corrects the mean error.

    Returns:
        Codes in -127..127, shape of `weights`.

    Sources: the objective is that of Nagel et al. 2020, arXiv:2004.10568 (AdaRound), equation
        13; its descent by coordinates that of Hubara et al. 2021 and Frantar et al. 2022,
        arXiv:2210.17323, in a fixed order.
    """
    exact = weights / scales[:, None]
    codes = np.clip(np.rint(exact), -_LARGEST, _LARGEST)
    size = weights.shape[1]
    if not (np.isfinite(moment).all() and np.trace(moment) > 0):
        return codes
    damped = moment + np.eye(size) * (_DAMPING * np.trace(moment) / size)
    order = np.argsort(-np.diag(damped), kind="stable")  # largest effect first
    descent = _CoordinateDescent(exact[:, order], codes[:, order], damped[np.ix_(order, order)])
    for _ in range(_SWEEPS):
        if not descent.sweep():
            break
    codes[:, order] = descent.codes
    return codes


class _CoordinateDescent:
    """Coordinate descent over codes.

    Args:
        exact: Weights in steps.
        codes: Initial codes; changed in place.
        moment: Positive definite.
    """

    def __init__(
        self, exact: NDArray[np.float64], codes: NDArray[np.float64], moment: NDArray[np.float64]
    ) -> None:
        self.codes = codes
        self._moment = moment
        self._slope = (codes - exact) @ moment  # half the gradient
        self._free = np.ones(codes.shape, bool)
        self._free[np.arange(len(codes)), np.abs(exact).argmax(axis=1)] = False

    def sweep(self) -> bool:
        """Visit every weight once; return True if any code changed."""
        size = self.codes.shape[1]
        edges = [*range(0, size, _BLOCK), size]
        return sum(self._visit(first, last) for first, last in pairwise(edges)) > 0

    def _visit(self, first: int, last: int) -> bool:
        block = self._moment[first:last, first:last]
        slope = self._slope[:, first:last].copy()
        before = self.codes[:, first:last].copy()
        for k in range(last - first):
            column = self.codes[:, first + k]
            best = np.clip(np.rint(column - slope[:, k] / block[k, k]), -_LARGEST, _LARGEST)
            moved = np.where(self._free[:, first + k], best - column, 0.0)
            if moved.any():
                column += moved
                slope += moved[:, None] * block[k]
        taken = self.codes[:, first:last] - before
        if not taken.any():
            return False
        self._slope += taken @ self._moment[first:last]
        return True
