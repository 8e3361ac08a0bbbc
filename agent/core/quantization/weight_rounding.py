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
_SWEEPS = 4  # later ones gained nothing on three models
_BLOCK = 64  # weights whose effect on the other blocks is applied at once


def round_weights(
    weights: NDArray[np.float64], scales: NDArray[np.float64], moments: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return integer codes that nearly minimise the error at the output.

    Coordinate descent from the nearest codes: each weight in turn gets the code that is best while
    the others are fixed, until none changes. The error never grows. The largest weight of each
    channel is fixed, since it defines the scale. All groups of a layer are visited together: a
    depthwise layer has hundreds of them with nine weights each.

    Args:
        weights: Shape (groups, output channels, k), one row per scale.
        scales: Of each row, shape (groups, output channels), > 0.
        moments: E[x x^T] of the k inputs of a weight row, shape (groups, k, k); their covariance if
            a bias corrects the mean error. A group without a finite, positive one keeps the nearest
            codes.

    Returns:
        Codes in -127..127, shape of `weights`.

    Sources: the objective is that of Nagel et al. 2020, arXiv:2004.10568 (AdaRound), equation
        13; its descent by coordinates that of Hubara et al. 2021 and Frantar et al. 2022,
        arXiv:2210.17323, in a fixed order.
    """
    damped = _damped(moments)
    order = np.argsort(-_diagonals(damped), axis=1, kind="stable")  # largest effect first
    descent = _CoordinateDescent(
        np.take_along_axis((weights / scales[..., None]).swapaxes(1, 2), order[..., None], axis=1),
        np.take_along_axis(
            np.take_along_axis(damped, order[:, :, None], axis=1), order[:, None, :], axis=2
        ),
    )
    for _ in range(_SWEEPS):
        if not descent.sweep():
            break
    codes = np.empty_like(descent.codes)
    np.put_along_axis(codes, order[..., None], descent.codes, axis=1)
    return np.asarray(codes.swapaxes(1, 2))


def _damped(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return positive definite moments; that of a useless one is the identity."""
    one = np.eye(moments.shape[1])
    useful = np.isfinite(moments).all(axis=(1, 2))
    mean = np.where(useful, _diagonals(moments).mean(axis=1), 0)
    useful = (useful & (mean > 0))[:, None, None]
    return np.asarray(np.where(useful, moments + one * (_DAMPING * mean[:, None, None]), one))


def _diagonals(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.diagonal(moments, axis1=1, axis2=2))


class _CoordinateDescent:
    """Coordinate descent over codes.

    Args:
        exact: Weights in steps, shape (groups, k, rows).
        moments: Positive definite, shape (groups, k, k).
    """

    def __init__(self, exact: NDArray[np.float64], moments: NDArray[np.float64]) -> None:
        self.codes = np.clip(np.rint(exact), -_LARGEST, _LARGEST)
        self._moments = moments
        self._slope = moments @ (self.codes - exact)  # half the gradient
        self._free = np.ones(exact.shape, bool)
        largest = np.abs(exact).argmax(axis=1)
        np.put_along_axis(self._free, largest[:, None, :], values=False, axis=1)

    def sweep(self) -> bool:
        """Visit every weight once; return True if any code changed."""
        size = self.codes.shape[1]
        edges = [*range(0, size, _BLOCK), size]
        return sum(self._visit(first, last) for first, last in pairwise(edges)) > 0

    def _visit(self, first: int, last: int) -> bool:
        """Visit some weights of the rows in which any of them would move."""
        at = slice(first, last)
        steps = _diagonals(self._moments)[:, at, None]
        moves = _moves(self.codes[:, at], self._slope[:, at], steps, self._free[:, at])
        if not moves.any():
            return False
        groups = np.flatnonzero(moves.any(axis=(1, 2)))
        rows = np.flatnonzero(moves.any(axis=(0, 1)))
        part = np.ix_(groups, np.arange(first, last), rows)
        codes, slope, free = self.codes[part], self._slope[part], self._free[part]
        moments = self._moments[groups, :, at]
        block = moments[:, at]
        steps = _diagonals(block)[..., None]
        for k in range(last - first):
            moved = _moves(codes[:, k], slope[:, k], steps[:, k], free[:, k])
            if moved.any():
                codes[:, k] += moved
                slope[:, k + 1 :] += block[:, k + 1 :, k, None] * moved[:, None, :]
        taken = codes - self.codes[part]
        self.codes[part] = codes
        self._slope[np.ix_(groups, np.arange(len(self._moments[0])), rows)] += moments @ taken
        return True


def _moves(
    codes: NDArray[np.float64],
    slope: NDArray[np.float64],
    steps: NDArray[np.float64],
    free: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return by how much each code would move while the others are fixed."""
    best = np.rint(codes - slope / steps)
    np.maximum(np.minimum(best, _LARGEST, out=best), -_LARGEST, out=best)
    best -= codes
    best *= free
    return best
