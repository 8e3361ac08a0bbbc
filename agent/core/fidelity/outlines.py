"""Outlines of masks as SVG path data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MOST_CELLS = 160  # along the longer side of a grid; finer is not seen in a small picture
_MOST_POINTS = 1500  # of one mask: noise has an outline around every cell

Area = tuple[float, float, float, float]
"""Left, top, right, bottom; px of the frame."""
Cell = tuple[int, int]


def outline(mask: NDArray[np.bool_], area: Area) -> str:
    """Return the outlines of a mask, each through the middles of the cells' outer edges.

    Args:
        mask: Shape (h, w).
        area: Where its grid is, px of the frame.

    Returns:
        Path data in whole px of the frame; "" for an empty mask. Of very many outlines, the
        longest.
    """
    step = -(-max(mask.shape) // _MOST_CELLS)
    small = mask[step // 2 :: step, step // 2 :: step]
    if not small.any():
        return ""
    left, top, right, bottom = area
    scale = step * np.array([(right - left) / mask.shape[1], (bottom - top) / mask.shape[0]])
    parts: list[str] = []
    points = 0
    for loop in sorted(_loops(small), key=len, reverse=True):
        corners = _corners(loop)
        points += len(corners)
        if parts and points > _MOST_POINTS:
            break
        at = np.rint(corners * scale + (left, top)).astype(int).tolist()
        parts.append("M" + " ".join(f"{x},{y}" for x, y in at) + "Z")
    return "".join(parts)


def _loops(mask: NDArray[np.bool_]) -> list[list[Cell]]:
    """Return closed chains of corners of cells, the mask to the right of each step."""
    inside = np.pad(mask, 1)
    steps: dict[Cell, list[Cell]] = {}
    for (down, right), (begin, end) in _SIDES.items():
        edges = inside & ~np.roll(inside, (-down, -right), (0, 1))
        for row, column in np.argwhere(edges).tolist():
            steps.setdefault((column + begin[0], row + begin[1]), []).append(
                (column + end[0], row + end[1])
            )
    found = []
    while steps:
        at = next(iter(steps))
        loop = []
        while at in steps:
            loop.append(at)
            ends = steps[at]
            after = ends.pop()
            if not ends:
                del steps[at]
            at = after
        found.append(loop)
    return found


_SIDES: dict[Cell, tuple[Cell, Cell]] = {
    (-1, 0): ((0, 0), (1, 0)),
    (0, 1): ((1, 0), (1, 1)),
    (1, 0): ((1, 1), (0, 1)),
    (0, -1): ((0, 1), (0, 0)),
}  # by the neighbour (rows down, columns right) that is outside: where the edge begins and ends


def _corners(loop: Sequence[Cell]) -> NDArray[np.float64]:
    """Return the middles of a loop's edges where the line turns; cells of the grid."""
    corners = np.array(loop, np.float64) - 1  # the grid was padded by one cell
    middles = (corners + np.roll(corners, -1, axis=0)) / 2
    before = middles - np.roll(middles, 1, axis=0)
    after = np.roll(middles, -1, axis=0) - middles
    turns: NDArray[np.float64] = middles[(before != after).any(axis=1)]
    return turns
