"""Decoders on heads whose boxes the test put there."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agent.core.errors import ConfigError
from agent.core.fidelity.box_decoding import decode
from agent.core.fidelity.decoding import Decoding

CORNERS = np.array([[10.0, 20, 30, 60], [50, 20, 90, 60], [11, 21, 30, 60]])
CENTERED = np.array([[20.0, 40, 20, 40], [70, 40, 40, 40], [20.5, 40.5, 19, 39]])
SCORES = np.array([0.9, 0.4, 0.8])


def read(outputs, **keys):
    found = decode(outputs, Decoding(**keys), trusted=True)
    return found.boxes.tolist(), found.scores.tolist(), found.labels.tolist()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("form", "boxes"), [("xyxy", CORNERS), ("cxcywh", CENTERED)])
def test_boxes_and_scores_in_outputs_of_their_own(form, boxes, transposed):
    per_class = np.stack([np.zeros(3), SCORES], axis=1)
    if transposed:
        boxes, per_class = boxes.T, per_class.T
    for scores, label in ((per_class[None], 1), (SCORES[None], 0), (SCORES, 0)):
        found = read(
            {"b": boxes[None], "s": scores}, kind="boxes", boxes="b", scores="s", format=form
        )
        assert found == (CORNERS[:2].tolist(), [0.9, 0.4], [label, label])  # the third: suppressed


def test_boxes_with_an_axis_of_one_and_labels_of_their_own():
    outputs = {"b": CORNERS[None, :, None], "s": SCORES[None], "c": np.float32([[3, 4, 4]])}
    found = read(outputs, kind="boxes", boxes="b", scores="s", labels="c", overlap=0.5)
    assert found == (CORNERS[[0, 2, 1]].tolist(), [0.9, 0.8, 0.4], [3, 4, 4])


def test_the_first_class_may_mean_that_there_is_nothing():
    scores = np.array([[0.1, 0.9], [0.95, 0.05], [0.3, 0.7]])
    keys = {"kind": "boxes", "boxes": "b", "scores": "s"}
    found = read({"b": CORNERS[None], "s": scores[None]}, background=True, overlap=1.0, **keys)
    assert found == (CORNERS[[0, 2]].tolist(), [0.9, 0.7], [0, 0])


@pytest.mark.parametrize("transposed", [False, True])
def test_a_head_without_anchors(transposed):
    head = np.zeros((40, 4 + 3))
    head[[5, 20, 30], :4] = CENTERED
    head[[5, 20, 30], 5] = SCORES
    head[20, 6] = 0.6
    found = read({"y": (head.T if transposed else head)[None]}, kind="yolo")
    assert found == (CORNERS[:2].tolist(), [0.9, 0.6], [1, 2])


def test_a_head_of_as_many_channels_as_cells_has_the_channels_first():
    """84 channels and 84 cells: the 80 classes of COCO on pictures of 64 x 64."""
    head = np.zeros((84, 84))
    head[[5, 20, 30], :4] = CENTERED
    head[[5, 20, 30], 11] = SCORES
    assert read({"y": head.T[None]}, kind="yolo") == (CORNERS[:2].tolist(), [0.9, 0.4], [7, 7])


def test_objectness_is_a_factor():
    head = np.zeros((40, 5 + 2))
    head[:3, :4] = CENTERED
    head[:3, 4] = 0.5
    head[:3, 6] = SCORES
    found = read({"y": head[None]}, kind="yolo", objectness=True)
    assert found == ([CORNERS[0].tolist()], [0.45], [1])


def test_logits_get_a_sigmoid():
    logits = np.log(SCORES / (1 - SCORES))
    _, scores, _ = read(
        {"b": CORNERS[None], "s": logits[None]}, kind="boxes", boxes="b", scores="s", logits=True
    )
    assert scores == pytest.approx([0.9, 0.4])


def heat_maps(order, size):
    """Return outputs with objects at cells (x 3, y 5) and (x 10, y 2): 6x8 and 4x2 cells large."""
    heat, sizes, offsets = np.zeros((2, 12, 16)), np.ones((2, 12, 16)), np.zeros((2, 12, 16))
    heat[0, 5, 3], heat[1, 2, 10] = 0.9, 0.7
    sizes[:, 5, 3], sizes[:, 2, 10] = (6, 8), (4, 2)
    offsets[:, 5, 3] = (0.5, 0.25)
    sizes = {"cells": sizes, "log": np.log(sizes), "pixels": 8 * sizes}[size]
    if order == "yx":
        sizes, offsets = sizes[::-1], offsets[::-1]
    return {"h": heat[None], "s": sizes[None], "o": offsets[None]}


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("size", ["cells", "log", "pixels"])
@pytest.mark.parametrize("order", ["xy", "yx"])
def test_heat_maps_of_centers(order, size, last):
    outputs = heat_maps(order, size)
    if last:
        outputs = {name: np.moveaxis(values, 1, 3) for name, values in outputs.items()}
    keys = {"kind": "centers", "scores": "h", "sizes": "s", "size": size, "order": order}
    boxes, scores, labels = read(outputs, offsets="o", stride=8, **keys)
    assert (scores, labels) == ([0.9, 0.7], [0, 1])
    assert boxes[0] == pytest.approx([0.5, 1.25, 6.5, 9.25])
    assert boxes[1] == pytest.approx([8, 1, 12, 3])
    assert read(outputs, stride=8, **keys)[0][0] == pytest.approx([0, 1, 6, 9])


@pytest.mark.parametrize(
    ("outputs", "keys", "said"),
    [
        ({"y": np.zeros((1, 9, 6))}, {"kind": "yolo", "boxes": "z"}, '"z" is no output'),
        (
            {"y": np.zeros((1, 9, 4))},
            {"kind": "yolo"},
            "boxes: output y of shape 1x9x4 is not what",
        ),
        ({"y": np.zeros((2, 9, 6))}, {"kind": "yolo"}, "shape 2x9x6 is not what"),
        ({"y": np.full((1, 9, 6), 3.0)}, {"kind": "yolo"}, "from 3 to 3, not inside 0..1"),
        (
            {"y": np.tile([5.0, 5, -1, 2, 0.9], (1, 9, 1))},
            {"kind": "yolo"},
            "no positive size",
        ),
        (
            {"b": np.zeros((1, 9, 5)), "s": np.zeros((1, 9))},
            {"kind": "boxes", "boxes": "b", "scores": "s"},
            "decode.boxes: output b of shape 1x9x5",
        ),
        (
            {"b": np.zeros((1, 9, 4)), "s": np.zeros((1, 8))},
            {"kind": "boxes", "boxes": "b", "scores": "s"},
            "decode.scores: output s of shape 1x8",
        ),
        (
            {"b": np.zeros((1, 9, 4)), "s": np.zeros((1, 9)), "c": np.zeros((1, 8))},
            {"kind": "boxes", "boxes": "b", "scores": "s", "labels": "c"},
            "decode.labels",
        ),
        (
            {"h": np.zeros((1, 1, 4, 6)), "s": np.zeros((1, 2, 4, 5))},
            {"kind": "centers", "scores": "h", "sizes": "s"},
            "decode.sizes: output s of shape 1x2x4x5",
        ),
        (
            {"h": np.zeros((1, 4)), "s": np.zeros((1, 2, 4, 5))},
            {"kind": "centers", "scores": "h", "sizes": "s"},
            "decode.scores: output h of shape 1x4",
        ),
    ],
)
def test_a_decoding_that_does_not_fit_has_a_reason(outputs, keys, said):
    with pytest.raises(ConfigError, match=said) as caught:
        read(outputs, **keys)
    assert caught.value.code == "decode"
    assert caught.value.hint


def test_an_engine_gone_wild_is_no_error_and_is_bounded():
    rng = np.random.default_rng(0)
    head = rng.uniform(-3e38, 3e38, (300_000, 6)).astype(np.float32)
    began = time.perf_counter()
    found = decode({"y": head[None]}, Decoding(kind="yolo", threshold=0.0))
    assert time.perf_counter() - began < 5
    assert len(found) <= 1000
    assert np.isfinite(found.boxes).all()


@given(
    head=hnp.arrays(
        np.float32, (1, 12, 6), elements=st.floats(allow_nan=False, allow_infinity=False, width=32)
    ),
    kind=st.sampled_from(["yolo", "boxes", "centers"]),
    logits=st.booleans(),
)
def test_any_finite_outputs_of_an_engine_decode(head, kind, logits):
    outputs = {"y": head, "b": head[..., :4], "s": head[..., 4:]}
    keys = {"kind": kind, "logits": logits, "threshold": 0.0}
    if kind == "boxes":
        keys |= {"boxes": "b", "scores": "s"}
    if kind == "centers":
        outputs = {"h": head.reshape(1, 2, 6, 6), "s": head.reshape(1, 2, 6, 6)}
        keys |= {"scores": "h", "sizes": "s", "size": "log"}
    found = decode(outputs, Decoding(**keys))
    assert np.isfinite(found.boxes).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
