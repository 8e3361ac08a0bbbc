"""Detections written by hand, and any others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from agent.core.fidelity.detection import Detections

Box = tuple[float, float, float, float]


def detections(*found: tuple[Box, float, int]) -> Detections:
    """Return detections from (box, score, class id) each."""
    boxes: Sequence[Box] = [box for box, _, _ in found]
    return Detections(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array([score for _, score, _ in found], np.float64),
        np.array([label for *_, label in found], np.int64),
    )


@st.composite
def some_detections(draw: st.DrawFn, most: int = 12) -> Detections:
    """Return boxes of a small picture, so that many overlap and many scores are equal."""
    places, sizes = st.integers(0, 12), st.integers(1, 8)
    found = []
    for _ in range(draw(st.integers(0, most))):
        x, y = draw(places), draw(places)
        box = (x, y, x + draw(sizes), y + draw(sizes))
        found.append((box, draw(st.sampled_from([0.3, 0.5, 0.6, 0.9])), draw(st.integers(0, 1))))
    return detections(*found)
