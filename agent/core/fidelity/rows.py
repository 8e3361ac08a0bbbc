"""Rows that a model ranks itself, matched before they are compared.

The best boxes of a detector leave the graph in the order of their scores. Rounding swaps rows of
almost equal scores, and replaces some at the end of the list: compared place by place, even float16
would seem to be wrong. So each row of the engine is paired with one of the baseline's, all
outputs of the same order by one assignment, and the pairs are compared.

What an assignment can't hide:

- Each row is used once, and no pair is left out for its distance. A row that is missing, doubled or
  invented meets one that it does not resemble.
- Rows that have nothing to do with the baseline's still lie somewhere among them. How near they come
  by chance is measured on the baseline itself, by matching one half of its rows with the other. If
  the rows of a frame are not at least 7 dB nearer than that, it is compared place by place.
- Only at the end of a list of fixed length may a tenth of the rows be others: those that tie with
  the row that just missed it. Where the number of rows varies, each row without a partner counts as
  noise, with its own energy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.records import RankedRows

_MOST_ROWS = 2048  # matched; more would take hundreds of MB, and are compared place by place
_MOST_VALUES = 4096  # of a row; masks don't take part in distances if boxes do
_CHANCE = 0.2  # of the squared distance that unrelated rows have: 7 dB
_FEW = 8  # rows; fewer don't come near by chance
_REPLACED = 0.1  # of the rows at the end of a list
_TIE = 4.0  # standard deviations of the engine's noise
_MEDIAN = 0.6745  # of the absolute value of noise, in standard deviations
_SAME_PLACE = 1e-9  # of the mean square: decides between equal rows
_FAR = 1e9  # limit of relative differences, so that their squares are finite

Outputs = Mapping[str, NDArray[Any]]
Table = NDArray[np.float64]
"""Rows of one output, shape (rows, values of a row)."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Indices of rows: the baseline's beside the engine's, then those without a partner."""

    baseline: NDArray[np.intp]
    engine: NDArray[np.intp]
    lost: NDArray[np.intp]
    invented: NDArray[np.intp]


def match_rows(
    expected: Outputs, seen: Outputs, ranked: Sequence[RankedRows]
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Return the outputs of one inference with the rows of each order paired.

    Args:
        expected: The baseline's outputs, of finite numbers.
        seen: The engine's, of the same names and shapes but for the number of rows.
        ranked: The outputs with ranked rows.

    Returns:
        Both, with the axis of the rows first in ranked outputs: the rows of a pair are at the same
        place, and each row without a partner is beside zeros. Other outputs are as they were.
    """
    first, second = dict(expected), dict(seen)
    for order in ranked:
        rows = {name: np.moveaxis(expected[name], axis, 0) for name, axis in order.axes.items()}
        others = {name: np.moveaxis(seen[name], axis, 0) for name, axis in order.axes.items()}
        small = [name for name in rows if prod(rows[name].shape[1:]) <= _MOST_VALUES] or list(rows)
        found = pair(
            [_table(rows[name]) for name in small],
            [_table(others[name]) for name in small],
            fixed=order.count is not None,
        )
        for name in order.axes:
            before, after = rows[name], others[name]
            lost, invented = before[found.lost], after[found.invented]
            first[name] = np.concatenate([before[found.baseline], lost, np.zeros_like(invented)])
            second[name] = np.concatenate([after[found.engine], np.zeros_like(lost), invented])
    return first, second


def _table(rows: NDArray[Any]) -> Table:
    return rows.reshape(len(rows), prod(rows.shape[1:])).astype(np.float64)


def pair(baseline: Sequence[Table], engine: Sequence[Table], *, fixed: bool) -> Pairs:
    """Pair the rows of two frames.

    The nearest two rows are paired first, then the nearest two of the rest, and so on. A distance is
    the noise that SQNR would measure: the mean of an output's squared differences, each divided by
    the mean square over the baseline's rows; the sum over the outputs.

    Args:
        baseline: Tables of the outputs that share an order.
        engine: The same of the engine; possibly of another number of rows.
        fixed: True if the model always gives the same number of rows, the best.
    """
    rows, others = len(baseline[0]), len(engine[0])
    if max(rows, others) > _MOST_ROWS or not min(rows, others):
        return _in_order(rows, others)
    scales = [_scales(table) for table in baseline]
    first, second = _features(baseline, scales), _features(engine, scales)
    mine, its, distances = _nearest_pairs(first, second)
    lost, invented = np.setdiff1d(np.arange(rows), mine), np.setdiff1d(np.arange(others), its)
    kept = np.ones(len(mine), bool)
    if fixed and rows == others:
        kept = ~_replaced(baseline, engine, mine, its, distances)
    if rows >= _FEW and distances[kept].mean() > _CHANCE * _by_chance(first, float(kept.mean())):
        return _in_order(rows, others)
    return Pairs(mine[kept], its[kept], lost, invented)


def _in_order(rows: int, others: int) -> Pairs:
    """Pair rows place by place."""
    both = np.arange(min(rows, others))
    return Pairs(both, both, np.arange(len(both), rows), np.arange(len(both), others))


def _scales(table: Table) -> Table:
    """Return the root mean square of each value over the rows; 1 for one that is always zero."""
    rms = np.sqrt(np.mean(np.square(table), axis=0))
    return np.where(rms > 0, rms, 1.0)


def _features(tables: Sequence[Table], scales: Sequence[Table]) -> Table:
    """Return what distances are taken between, shape (rows, values of all outputs)."""
    relative = [
        np.clip(table / scale, -_FAR, _FAR) / np.sqrt(max(table.shape[1], 1))
        for table, scale in zip(tables, scales, strict=True)
    ]
    return np.concatenate(relative, axis=1)


def _nearest_pairs(
    first: Table, second: Table
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return pairs of rows and their squared distances, by pairing the nearest two of the rest.

    Rows that are each other's nearest stay so until they are paired, so each round takes them all.
    """
    center = first.mean(axis=0)
    first, second = first - center, second - center
    places, its_places = (np.arange(len(table)) / len(table) for table in (first, second))
    left = _SAME_PLACE * np.square(places[:, None] - its_places)
    left -= 2.0 * (first @ second.T)
    left += np.square(first).sum(axis=1)[:, None]
    left += np.square(second).sum(axis=1)
    rows, others = np.arange(len(first)), np.arange(len(second))
    mine, its = [], []
    while rows.size and others.size:
        nearest, back = left.argmin(axis=1), left.argmin(axis=0)
        mutual = np.flatnonzero(back[nearest] == np.arange(rows.size))
        mine.append(rows[mutual])
        its.append(others[nearest[mutual]])
        own = np.delete(np.arange(rows.size), mutual)
        other = np.delete(np.arange(others.size), nearest[mutual])
        rows, others, left = rows[own], others[other], left[np.ix_(own, other)]
    baseline, engine = np.concatenate(mine), np.concatenate(its)
    return baseline, engine, np.square(first[baseline] - second[engine]).sum(axis=1)


def _by_chance(rows: Table, share: float) -> float:
    """Return the mean squared distance of rows that are not the same: of one half to the other.

    Args:
        rows: At least two.
        share: Of the pairs to count, the nearest.
    """
    drawn = np.random.default_rng(0).permutation(len(rows))
    half = len(rows) // 2
    distances = np.sort(_nearest_pairs(rows[drawn[:half]], rows[drawn[half:]])[2])
    return float(distances[: ceil(share * half)].mean())


def _replaced(
    baseline: Sequence[Table],
    engine: Sequence[Table],
    mine: NDArray[np.intp],
    its: NDArray[np.intp],
    distances: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return which pairs are of rows at the end of both lists that were replaced, as ties are.

    At most a tenth, those that differ most, and only if they differ by more than noise. A row ties
    with the end if its score is above that of the last row by no more than the noise of the engine's
    scores. If no value of the rows is a score, by which they are sorted, a row ties if it is in the
    last tenth.
    """
    rows = len(mine)
    most = ceil(_REPLACED * rows)
    tied = np.minimum(mine, its) >= rows - most
    for expected, seen in zip(baseline, engine, strict=True):
        falls = (np.diff(expected, axis=0) <= 0).all(axis=0) & (expected[0] > expected[-1])
        if falls.any():
            score, other = expected[:, falls.argmax()], seen[:, falls.argmax()]
            noise = np.median(np.abs(score[mine] - other[its])) / _MEDIAN
            above = np.maximum(score[mine] - score[-1], other[its] - other.min())
            tied = above <= _TIE * noise
            break
    found = np.zeros(rows, bool)
    ends = np.flatnonzero(tied & (distances > _TIE**2 * np.median(distances)))
    found[ends[np.argsort(-distances[ends], kind="stable")[:most]]] = True
    return found
