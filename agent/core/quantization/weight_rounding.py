"""Weights rounded so that a layer's output moves least, not each weight by itself.

The error that rounding makes at a layer's output is e^T M e for each output channel: e is the
error of its weights, M the second moment of what they are multiplied with. Neighbouring pixels
are alike, so M is far from diagonal: errors that cancel cost little, and where the nearest
integers all err to one side, taking one of them the other way is nearer as a whole.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_LARGEST = 127
_DAMPING = 0.01  # of the mean of the diagonal: what the sample of inputs did not show
_SWEEPS = 8
_BLOCK = 64  # weights whose effect on the others is added up before it is told


def round_weights(
    weights: NDArray[np.float64], scales: NDArray[np.float64], moment: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return integer codes whose weights give nearly the least error at the output.

    Coordinate descent from the nearest integers: each weight in turn takes the integer that is
    best while the others stay, until none moves. The error never grows on the way. The largest
    weight of each channel stays where it is, since it defines the scale.

    Args:
        weights: Shape (output channels, k), one row per scale.
        scales: Of each row, shape (output channels,), > 0.
        moment: E[x x^T] of the k inputs of a weight row, shape (k, k), or their covariance
            where a bias makes up for the mean error.

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
    order = np.argsort(-np.diag(damped), kind="stable")  # what matters most moves first
    moving = _CoordinateDescent(exact[:, order], codes[:, order], damped[np.ix_(order, order)])
    for _ in range(_SWEEPS):
        if not moving.sweep():
            break
    codes[:, order] = moving.codes
    return codes


class _CoordinateDescent:
    """Codes on their way to less error.

    Args:
        exact: Weights in steps.
        codes: Where to begin; changed in place.
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
        """Visit every weight once; return True if any moved."""
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
