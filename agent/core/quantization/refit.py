"""Least-squares refit of a layer to FP32's outputs on the inputs that INT8 leaves it.

The layers in front change a layer's inputs x, so its own weights W no longer give FP32's outputs y.
The weights that do are a regression of y on x with W as the prior: a ridge on the difference to W.
How strong it must be depends on how much of the errors of x repeats on other frames, so
cross-validation chooses it for every layer; fixed ridges overfit where positions are few.

Source: A. E. Hoerl and R. W. Kennard, "Ridge Regression: Biased Estimation for Nonorthogonal
    Problems" (Technometrics 12, 1970).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

RIDGES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
"""Those that are tried, over the mean variance of the inputs; from one that changes little."""


@dataclass(slots=True)
class InputOutputMoments:
    """Moments of a layer's im2col columns in INT8 and its outputs in FP32, in each group.

    Sums are of deviations from the means of the first frame, so that float32 suffices.

    Attributes:
        around: Means of the inputs, shape (groups, k, 1), and the outputs, (groups, rows, 1).
        inputs: Sum of the inputs, shape (groups, k).
        outputs: Sum of the outputs, shape (groups, rows).
        squares: Sum of the products of inputs, shape (groups, k, k).
        products: Sum of the products of outputs and inputs, shape (groups, rows, k).
        count: Positions so far.
    """

    around: tuple[Array, Array]
    inputs: NDArray[np.float64]
    outputs: NDArray[np.float64]
    squares: Array
    products: Array
    count: int = 0

    @classmethod
    def around_means(cls, inputs: Array, outputs: Array) -> InputOutputMoments:
        """Return empty sums around the means of some positions."""
        (groups, size, _), rows = inputs.shape, outputs.shape[1]
        return cls(
            (inputs.mean(axis=2, keepdims=True), outputs.mean(axis=2, keepdims=True)),
            np.zeros((groups, size)),
            np.zeros((groups, rows)),
            np.zeros((groups, size, size), np.float32),
            np.zeros((groups, rows, size), np.float32),
        )

    def empty(self) -> InputOutputMoments:
        """Return empty sums around the same means, so that both can be merged."""
        return InputOutputMoments.around_means(*self.around)

    def add(self, inputs: Array, outputs: Array) -> None:
        """Add positions, shapes (groups, k, positions) and (groups, rows, positions)."""
        x, y = inputs - self.around[0], outputs - self.around[1]
        self.inputs += x.sum(axis=2, dtype=np.float64)
        self.outputs += y.sum(axis=2, dtype=np.float64)
        for group, columns in enumerate(x):
            self.squares[group] += columns @ columns.T  # of one matrix: BLAS computes half of it
        self.products += np.matmul(y, x.transpose(0, 2, 1))
        self.count += inputs.shape[2]

    def merge(self, other: InputOutputMoments) -> None:
        """Add the sums of another sample around the same means."""
        self.inputs += other.inputs
        self.outputs += other.outputs
        self.squares += other.squares
        self.products += other.products
        self.count += other.count

    def covariances(self) -> tuple[Array, Array]:
        """Return those of the inputs, (groups, k, k), and of outputs and inputs, (groups, rows, k)."""
        x, y = (self.inputs / self.count).astype(np.float32), self.outputs / self.count
        return (
            self.squares / self.count - x[:, :, None] * x[:, None, :],
            self.products / self.count - y.astype(np.float32)[:, :, None] * x[:, None, :],
        )

    def bias(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the bias with which weights give the mean outputs, shape (groups, rows)."""
        x, y = self.inputs / self.count, self.outputs / self.count
        means = (self.around[0][..., 0] + x)[:, :, None]
        return np.asarray(self.around[1][..., 0] + y - np.matmul(weights, means)[..., 0])


def refitted(weights: Array, halves: tuple[InputOutputMoments, InputOutputMoments]) -> Array:
    """Return the weights with the best ridge; unchanged where no ridge is better than none.

    Args:
        weights: Of the layer in FP32, shape (groups, rows, k).
        halves: Moments of two halves of the frames, each of which judges the fit to the other. In
            the end the first has the sums of both.
    """
    known = [half.covariances() for half in halves]
    best, least = 0.0, sum(_error(weights, *one) for one in known)
    for ridge in RIDGES:
        fits = [_fit(weights, *one, ridge) for one in known]
        error = sum(_error(fit, *one) for fit, one in zip(fits, reversed(known), strict=True))
        if not error < least:
            break
        best, least = ridge, error
    first, second = halves
    first.merge(second)
    return _fit(weights, *first.covariances(), best) if best else weights


def _fit(weights: Array, inputs: Array, outputs: Array, ridge: float) -> Array:
    size = inputs.shape[-1]
    variance = np.trace(inputs, axis1=1, axis2=2)[:, None, None] / size
    damped = inputs + (ridge * variance + np.float32(1e-12)) * np.eye(size, dtype=np.float32)
    missing = outputs - np.matmul(weights, inputs)
    change = np.linalg.solve(damped, missing.transpose(0, 2, 1)).transpose(0, 2, 1)
    return np.asarray(weights + change, np.float32)


def _error(weights: Array, inputs: Array, outputs: Array) -> float:
    """Return the squared error of the outputs around their means, less what is always the same."""
    return float(np.sum((np.matmul(weights, inputs) - 2 * outputs) * weights, dtype=np.float64))
