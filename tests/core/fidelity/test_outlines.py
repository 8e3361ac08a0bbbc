"""Outlines of masks: closed, where the mask is, and short."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from agent.core.fidelity.outlines import outline


def loops(path: str) -> list[np.ndarray]:
    assert re.fullmatch(r"(M-?\d+,-?\d+( -?\d+,-?\d+)*Z)*", path)
    return [
        np.array([[int(n) for n in point.split(",")] for point in part.split(" ")])
        for part in path.replace("M", "").split("Z")[:-1]
    ]


def area(corners: np.ndarray) -> float:
    x, y = corners.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_a_square_is_cut_at_the_middles_of_its_edges():
    mask = np.zeros((4, 4), bool)
    mask[1:3, 1:3] = True
    assert outline(mask, (0, 0, 40, 40)) == "M15,10 25,10 30,15 30,25 25,30 15,30 10,25 10,15Z"
    assert outline(mask, (-40, 0, 40, 40)).startswith("M-10,10 10,10 20,15")


def test_a_hole_turns_the_other_way_so_that_areas_add_up():
    rows, columns = np.mgrid[:100, :100]
    radius = np.hypot(rows - 50, columns - 50)
    outer, hole = loops(outline((radius < 40) & (radius > 20), (0, 0, 100, 100)))
    assert area(outer) > 0 > area(hole)
    assert abs(area(outer) + area(hole) - np.pi * (40**2 - 20**2)) < 100


def test_nothing_has_no_outline():
    assert outline(np.zeros((5, 9), bool), (0, 0, 9, 5)) == ""


def test_noise_and_large_masks_stay_short():
    noise = np.random.default_rng(0).random((1080, 1920)) > 0.5
    assert len(outline(noise, (0, 0, 1920, 1080))) < 16_000
    rows, columns = np.mgrid[:1080, :1920]
    disc = np.hypot(rows - 500, columns - 900) < 300
    path = outline(disc, (0, 0, 1920, 1080))
    assert len(path) < 3000
    corners = np.concatenate(loops(path))
    assert np.abs(np.hypot(*(corners - (900, 500)).T) - 300).max() < 20


@given(
    mask=arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)), left=st.integers(-9, 9)
)
def test_every_mask_has_outlines_inside_its_area_that_enclose_it(mask, left):
    height, width = mask.shape
    found = loops(outline(mask, (left, 0, left + 100 * width, 100 * height)))
    assert bool(found) == bool(mask.any())
    for corners in found:
        assert corners.min(axis=0)[0] >= left
        assert corners.max(axis=0)[0] <= left + 100 * width
    if found:
        assert sum(map(area, found)) > 0
