"""Channels are compared with their like, so that a loud one can't hide a quiet one's loss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.fidelity.channel_groups import channel_axis, like_magnitude
from agent.core.fidelity.comparison import Comparison

RNG = np.random.default_rng(16)


def yolo_head(classes=80, cells=2100, shown=(0, 2), seed=0):
    """Return a head as YOLO exports it: boxes in pixels, and scores of which few are high."""
    source = np.random.default_rng(seed)
    boxes = source.uniform(4, 640, (4, cells))
    scores = source.uniform(1e-6, 3e-3, (classes, 1)) * source.uniform(0, 1, (classes, cells))
    for label in shown:
        scores[label, source.integers(0, cells, 12)] = source.uniform(0.3, 0.95, 12)
    return np.concatenate([boxes, scores])[None].astype(np.float32)


def judged(expected, seen):
    comparison = Comparison("generic")
    for reference, found in zip(expected, seen, strict=True):
        comparison.add({"head": reference}, {"head": found})
    return comparison.result()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_zeroed_scores_beside_boxes_are_a_bad_sqnr(transposed, normalized):
    frames = [yolo_head(seed=seed) for seed in range(8)]
    if normalized:  # boxes in 0..1, as RT-DETR has them
        for one in frames:
            one[:, :4] /= 640
    zeroed = [one.copy() for one in frames]
    for one in zeroed:
        one[:, 4:] = 0
    noisy = [one * (1 + 0.01 * RNG.standard_normal(one.shape)) for one in frames]
    if transposed:
        frames, zeroed, noisy = (
            [one.transpose(0, 2, 1) for one in heads] for heads in (frames, zeroed, noisy)
        )
    found = judged(frames, zeroed)
    assert found.sqnr_db == pytest.approx(0.0, abs=0.01)
    worst, boxes = found.sqnr_groups
    assert (worst.output, worst.channels, boxes.channels) == ("head", "4-83", "0-3")
    assert (worst.sqnr_db, boxes.sqnr_db) == (found.sqnr_db, None)
    assert boxes.magnitude > 10 * worst.magnitude
    assert found.per_output_sqnr_db == {"head": found.sqnr_db}
    assert judged(frames, noisy).sqnr_db == pytest.approx(40, abs=1)


def test_the_interval_is_of_the_worst_group():
    frames = [yolo_head(seed=seed) for seed in range(12)]
    seen = [one.copy() for one in frames]
    for one in seen:
        one[:, 4:] *= 1.1 + 0.02 * RNG.standard_normal()
    found = judged(frames, seen)
    low, high = found.sqnr_db_ci95
    assert 15 < low < found.sqnr_db < high < 25


def test_classes_that_the_scene_does_not_show_are_no_group_of_their_own():
    """Their noise is small beside the scores that count, and their own ratio means nothing."""
    frames = [yolo_head(seed=seed)[:, 4:] for seed in range(8)]
    absent = [one.copy() for one in frames]
    for one in absent:
        one[:, 1] = 0.0
    found = judged(frames, absent)
    assert len(found.sqnr_groups) == 1
    assert found.sqnr_db > 30


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((1, 84, 8400), 1), ((1, 8400, 84), 2), ((4, 84, 8400), 1), ((300, 6), 1), ((1, 7, 1600), 1),
        ((1, 21, 60, 80), 1), ((1, 60, 80, 21), 3), ((1, 1, 60, 80), None), ((1, 8400, 1, 84), 3),
        ((1, 80, 80), None), ((1, 1000), None), ((1, 1000, 1, 1), None), ((1000,), None),
        ((), None), ((1, 1, 5), None), ((1, 5000, 9000), None), ((1, 3, 8, 8, 85), None),
    ],
)  # fmt: skip
def test_the_channels_are_found_by_the_shape(shape, axis):
    assert channel_axis(shape) == axis


def grouped(rms, peak=1e9):
    rms = np.array(rms)
    found = like_magnitude(rms, -np.full(rms.size, peak), np.full(rms.size, peak))
    return [group.tolist() for group in found]


@pytest.mark.parametrize(
    ("rms", "groups"),
    [
        ([300.0, 0.02, 250.0, 0.01], [[0, 2], [1, 3]]),
        ([100.0, 30.0, 9.0, 2.0, 0.5], [[0, 1, 2, 3, 4]]),  # no gap between any two
        ([100.0, 10.0], [[0, 1]]),
        ([100.0, 9.9], [[0], [1]]),
        ([0.0, 5.0, 0.0], [[0, 1, 2]]),
        ([0.0, 0.0], [[0, 1]]),
        ([5.0, 0.0, 0.1], [[0], [1, 2]]),
        ([2.0], [[0]]),
    ],
)
def test_groups_are_an_order_of_magnitude_apart(rms, groups):
    assert grouped(rms) == groups


@given(rms=st.lists(st.floats(0, 1e12), min_size=1, max_size=30), seed=st.integers(0, 99))
def test_every_channel_is_in_one_group_whatever_their_order(rms, seed):
    found = grouped(rms)
    assert sorted(channel for group in found for channel in group) == list(range(len(rms)))
    order = np.random.default_rng(seed).permutation(len(rms))
    moved = [sorted(order[group].tolist()) for group in grouped(np.array(rms)[order])]
    levels = [sorted(rms[channel] for channel in group) for group in found]
    assert levels == [sorted(rms[channel] for channel in group) for group in moved]


def test_silent_and_constant_channels_cost_no_more_than_they_are():
    """A channel that is zero on all frames has no ratio of its own; a constant one has."""
    head = np.stack([np.full(50, 7.0), np.zeros(50), np.linspace(1, 9, 50)])[None]
    noisy = head + 0.01
    found = judged([head] * 3, [noisy] * 3)
    assert [one.channels for one in found.sqnr_groups] == ["all"]
    assert found.sqnr_db == pytest.approx(10 * np.log10((head**2).sum() / (150 * 0.01**2)))


def test_rows_of_a_varying_number_are_compared_as_one():
    first, second = np.full((3, 5), 2.0), np.full((9, 5), 4.0)
    comparison = Comparison("generic")
    for rows in (first, second, first):
        comparison.add({"y": rows}, {"y": rows * 1.1})
    found = comparison.result()
    assert [one.channels for one in found.sqnr_groups] == ["all"]
    assert found.sqnr_db == pytest.approx(20)
    assert found.sqnr_groups[0].magnitude == pytest.approx(
        np.sqrt((2 * 15 * 4 + 45 * 16) / (30 + 45))
    )
