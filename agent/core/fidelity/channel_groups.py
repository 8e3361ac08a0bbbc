"""SQNR by groups of channels of like magnitude, so that scores beside pixels count."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.fidelity.resampling import Counts, each_frame_once
from agent.core.records import SqnrGroup

_GAP = 10.0  # between the RMS of two groups: an order of magnitude
_UNLIKELY = 0.1  # probabilities that never reach it show nothing
_MOST_CHANNELS = 4096  # more are no channels, and would take memory on every frame
_SILENT_DB = -300.0  # stands for minus infinity: the baseline is all zero and the engine is not


def class_axis(shape: tuple[int, ...]) -> int | None:
    """Return the axis of the channels in (N, C, H, W) or (N, H, W, C); None for one channel.

    If two of the three axes are equal, they are those of a square picture; else the smaller of the
    two possible axes is that of the channels.
    """
    if len(shape) != 4 or min(shape[1], shape[3]) == 1:
        return None
    _, first, middle, last = shape
    if (first == middle) != (middle == last):
        return 3 if first == middle else 1
    return 1 if first <= last else 3


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """Return the axis of the channels of an output; None if it is of one channel.

    Of the two axes after the batch, as in (1, 84, 8400) or its transpose, the shorter is that of the
    channels; if they are equal, they are those of a square map. Several rows without a batch axis,
    such as (300, 6), are alike. The classes of a single row, a classifier's, belong together.
    """
    if len(shape) == 4:
        axis = class_axis(shape)
    elif len(shape) in {2, 3} and shape[-2] != shape[-1] and min(shape[-2:]) > 1:
        axis = len(shape) - (2 if shape[-2] < shape[-1] else 1)
    else:
        axis = None
    return axis if axis is not None and shape[axis] <= _MOST_CHANNELS else None


def like_magnitude(
    rms: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> list[NDArray[np.intp]]:
    """Return the channels in groups, of the largest magnitude first.

    Groups are an order of magnitude apart: channels in between join the groups around them. Silent
    channels belong to the quietest group. Channels of probabilities (inside 0..1) that never reach
    0.1, such as classes that the scene does not show, belong to the probabilities above them:
    their own ratio of signal to noise would mean nothing.

    Args:
        rms: Of each channel of the baseline, as the lowest and the highest value.
        low: The lowest value.
        high: The highest value.
    """
    order = np.argsort(-rms, kind="stable")
    cuts = [
        place
        for place, (louder, quieter) in enumerate(pairwise(rms[order].tolist()), start=1)
        if 0.0 < quieter * _GAP < louder
    ]
    found: list[NDArray[np.intp]] = []
    for group in np.split(order, cuts):
        unlikely = high[group].max() < _UNLIKELY and low[group].min() >= 0.0
        if unlikely and found and low[found[-1]].min() >= 0.0 and high[found[-1]].max() <= 1.0:
            found[-1] = np.append(found[-1], group)
        else:
            found.append(group)
    return [np.sort(group) for group in found]


@dataclass(frozen=True, slots=True)
class GroupSums:
    """One group of channels: signal and noise of each frame.

    Attributes:
        output: The output's name.
        channels: As in `SqnrGroup`.
        magnitude: RMS of the baseline.
    """

    output: str
    channels: str
    magnitude: float
    signal: NDArray[np.float64]
    noise: NDArray[np.float64]

    def sqnr_db(self, counts: Counts) -> NDArray[np.float64]:
        """Return 10 log10(signal / noise) for each resample; infinite without any noise."""
        signal, noise = counts @ self.signal, counts @ self.noise
        found = np.full(len(counts), np.inf)
        found[noise > 0] = _SILENT_DB
        both = (noise > 0) & (signal > 0)
        found[both] = 10.0 * np.log10(signal[both] / noise[both])
        return found

    def record(self) -> SqnrGroup:
        """Return its SQNR over all frames."""
        sqnr_db = float(self.sqnr_db(each_frame_once(len(self.signal)))[0])
        return SqnrGroup(
            output=self.output,
            channels=self.channels,
            sqnr_db=None if sqnr_db == np.inf else sqnr_db,
            magnitude=self.magnitude,
        )


class OutputSums:
    """Sums over the elements of one output: of each channel per frame, and products over all.

    Args:
        name: The output's.
        rows_first: True if its first axis is that of rows; any number of them, even none. If the
            rest has one axis, it is that of the channels.
    """

    def __init__(self, name: str, *, rows_first: bool = False) -> None:
        self._name = name
        self._rows_first = rows_first
        self._layout: tuple[int | None, int] | None = None  # axis and number of channels
        self._signal = array("d")  # per frame and channel, as the noise
        self._noise = array("d")
        self._low = self._high = np.zeros(0)
        self._elements = 0  # of one channel, over all frames
        self._dot = 0.0
        self._other = 0.0

    def add(self, reference: NDArray[Any], found: NDArray[Any]) -> None:
        """Add one frame."""
        axis = self._axis(reference.shape)
        layout = (axis, 1 if axis is None else reference.shape[axis])
        if self._layout is None:
            self._layout = layout
            self._low, self._high = np.full(layout[1], np.inf), np.full(layout[1], -np.inf)
        elif layout != self._layout:  # rows of a varying number
            self._fold()
        expected, seen = (self._by_channel(values) for values in (reference, found))
        difference = expected - seen
        self._signal.extend(np.einsum("icj,icj->c", expected, expected).tolist())
        self._noise.extend(np.einsum("icj,icj->c", difference, difference).tolist())
        self._low = np.minimum(self._low, expected.min(axis=(0, 2), initial=np.inf))
        self._high = np.maximum(self._high, expected.max(axis=(0, 2), initial=-np.inf))
        self._elements += expected.size // expected.shape[1]
        self._dot += float(expected.ravel() @ seen.ravel())
        self._other += float(seen.ravel() @ seen.ravel())

    def groups(self) -> list[GroupSums]:
        """Return the groups of like magnitude over the frames so far."""
        signal, noise = (self._table(sums) for sums in (self._signal, self._noise))
        rms, found = self._rms(), self.members()
        return [
            GroupSums(
                output=self._name,
                channels=_ranges(group.tolist()) if len(found) > 1 else "all",
                magnitude=float(np.sqrt((rms[group] ** 2).mean())),
                signal=signal[:, group].sum(axis=1),
                noise=noise[:, group].sum(axis=1),
            )
            for group in found
        ]

    def members(self) -> list[NDArray[np.intp]]:
        """Return the channels of each group of like magnitude over the frames so far."""
        return like_magnitude(self._rms(), self._low, self._high)

    def totals(self, members: Sequence[NDArray[np.intp]]) -> list[tuple[float, float]]:
        """Return signal and noise of given groups over the frames so far.

        Args:
            members: The channels of each group, of the same output. If the channels are not the same
                on all frames here, every group gets the sums over all of them.
        """
        if self._layout is None:
            return [(0.0, 0.0)] * len(members)
        sums = [self._table(one).sum(axis=0) for one in (self._signal, self._noise)]
        known = sum(map(len, members)) == len(self._low)
        picks = members if known else [slice(None)] * len(members)
        return [(float(sums[0][pick].sum()), float(sums[1][pick].sum())) for pick in picks]

    def cosine(self) -> float:
        """Return the cosine of the angle between the outputs; 1 without any noise."""
        if not any(self._noise):
            return 1.0
        lengths = float(np.sqrt(sum(self._signal)) * np.sqrt(self._other))
        return min(1.0, max(-1.0, self._dot / lengths)) if lengths else 0.0

    def _rms(self) -> NDArray[np.float64]:
        rms: NDArray[np.float64] = self._table(self._signal).sum(axis=0) / max(self._elements, 1)
        return np.sqrt(rms)

    def _axis(self, shape: tuple[int, ...]) -> int | None:
        if not self._rows_first:
            return channel_axis(shape)
        axes = [axis for axis, side in enumerate(shape) if axis and side > 1]
        return axes[0] if len(axes) == 1 and shape[axes[0]] <= _MOST_CHANNELS else None

    def _by_channel(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return values as (outer, channels, inner)."""
        axis = self._layout[0] if self._layout else None
        flat = values.astype(np.float64)
        if axis is None:
            return flat.reshape(1, 1, flat.size)
        before, after = prod(values.shape[:axis]), prod(values.shape[axis + 1 :])
        return flat.reshape(before, values.shape[axis], after)

    def _table(self, sums: array[float]) -> NDArray[np.float64]:
        """Return sums as (frames, channels)."""
        return np.asarray(sums, np.float64).reshape(-1, len(self._low))

    def _fold(self) -> None:
        """Take all channels as one, since they are not the same on all frames."""
        self._signal, self._noise = (
            array("d", self._table(sums).sum(axis=1).tolist())
            for sums in (self._signal, self._noise)
        )
        self._elements *= len(self._low)
        self._low, self._high = self._low.min(keepdims=True), self._high.max(keepdims=True)
        self._layout = (None, 1)


def _ranges(numbers: Sequence[int]) -> str:
    """Return sorted numbers as text: "0-3, 7"."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in found)
