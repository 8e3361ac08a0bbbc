"""The record of the input states what is done: each of its values changes the tensor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agent.core.frames.input_spec import InputSpec, Interpolation
from agent.core.frames.preprocess import fit, to_tensor

BOX = InputSpec(width=8, height=6, resize="letterbox")
BLUE, GREEN, RED = (
    np.full((1, 1, 3), [255 * (place == which) for place in range(3)], np.uint8)
    for which in range(3)
)


class Resizes:
    """Nearest pixels, and what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[int, int], str]] = []

    def __call__(self, image, size, how):
        self.asked.append((size, how))
        height, width = image.shape[:2]
        rows, columns = (
            np.arange(n) * old // n for n, old in zip(size[::-1], (height, width), strict=False)
        )
        return image[rows][:, columns]


@pytest.mark.parametrize(
    ("frame", "asked"),
    [
        ((16, 6), [((8, 3), "shrinks")]),
        ((4, 2), [((8, 4), "grows")]),
        ((8, 4), []),
    ],
)
def test_a_letterbox_is_as_its_record_states(frame, asked):
    spec = replace(BOX, pad_value=7, interpolation=Interpolation(shrink="shrinks", enlarge="grows"))
    resize = Resizes()
    image = np.full((*frame[::-1], 3), 200, np.uint8)
    found = fit(image, spec, resize)
    assert found.shape == (6, 8, 3)
    assert resize.asked == asked
    inner = asked[0][0][1] if asked else frame[1]
    top = (6 - inner) // 2
    assert (found[top : top + inner] == 200).all()
    assert (found[:top] == 7).all()
    assert (found[top + inner :] == 7).all()
    in_corner = fit(image, replace(spec, centered=False), Resizes())
    assert (in_corner[:inner] == 200).all()
    assert (in_corner[inner:] == 7).all()


def test_a_side_that_grows_beside_one_that_shrinks_is_enlarged():
    resize = Resizes()
    fit(np.zeros((4, 16, 3), np.uint8), InputSpec(width=8, height=6), resize)
    assert resize.asked == [((8, 6), "linear")]


def test_grey_weighs_red_green_and_blue_as_the_record_states():
    spec = InputSpec(width=1, height=1, color="GRAY", grey_weights=(0.5, 0.25, 0.125))
    found = [float(to_tensor(one, spec).item()) for one in (RED, GREEN, BLUE)]
    assert found == [127.5, 63.75, 31.875]
