"""Frame quality, signatures and selection, on pictures with known content and at random."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agent.core.frames.reservoir import Reservoir
from agent.core.frames.selection import (
    DUPLICATE,
    choose_frames,
    distances,
    frame_features,
    rejection_reason,
    split_counts,
    split_holdout,
)
from tests.support import scenes

# Few values per axis, so that equal and nearly equal signatures are frequent.
signatures = st.integers(1, 40).flatmap(
    lambda n: arrays(
        np.float32, (n, 3), elements=st.sampled_from([0.0, 1.0, 5.0, 9.0, 20.0, 60.0, 200.0])
    )
)
seeds = st.integers(0, 2**32 - 1)


def apart(one, other):
    return float(np.linalg.norm(one.astype(np.float64) - other))


@given(signatures, st.integers(0, 50), seeds)
def test_chosen_frames_are_distinct_candidates_and_the_same_again(found, n, seed):
    chosen = choose_frames(found, n, seed)
    assert chosen == choose_frames(found.copy(), n, seed)
    assert len(set(chosen)) == len(chosen) <= n
    assert set(chosen) <= set(range(len(found)))
    for a, b in combinations(chosen, 2):
        assert apart(found[a], found[b]) >= DUPLICATE


@given(signatures, st.integers(1, 40), seeds)
def test_fewer_frames_than_asked_means_that_all_others_are_repetitions(found, n, seed):
    chosen = choose_frames(found, n, seed)
    if len(chosen) < n:
        for one in found:
            assert distances(one, found[list(chosen)]).min() < DUPLICATE


@given(signatures, st.integers(2, 20), seeds)
def test_a_beginning_of_the_choice_is_the_choice_of_fewer(found, n, seed):
    assert choose_frames(found, n, seed)[: n // 2] == choose_frames(found, n // 2, seed)


@given(signatures, st.integers(1, 10), seeds, st.floats(-100, 100, width=16))
def test_where_signatures_lie_does_not_matter_only_how_far_apart(found, n, seed, offset):
    assert choose_frames(found, n, seed) == choose_frames(
        (found + np.float32(np.round(offset))).astype(np.float32), n, seed
    )


@settings(max_examples=60)
@given(
    arrays(np.float32, (7, 2), elements=st.integers(0, 40).map(lambda v: np.float32(20 * v))),
    st.integers(1, 4),
    seeds,
)
def test_no_frame_is_farther_from_a_chosen_one_than_twice_the_optimum(found, n, seed):
    """The guarantee of Gonzalez 1985, against all subsets."""

    def radius(subset):
        return max(distances(one, found[list(subset)]).min() for one in found)

    best = min(radius(subset) for subset in combinations(range(len(found)), n))
    chosen = choose_frames(found, n, seed)
    assert radius(chosen) <= max(2 * best, DUPLICATE) * (1 + 1e-6)


@given(signatures, st.integers(1, 12), st.integers(1, 12), seeds)
def test_the_split_shares_nothing_not_even_near_duplicates(found, frames, holdout, seed):
    chosen, held_out = split_holdout(found, frames, holdout, seed)
    assert (chosen, held_out) == split_holdout(found, frames, holdout, seed)
    assert set(chosen) | set(held_out) <= set(range(len(found)))
    assert len(set(chosen) | set(held_out)) == len(chosen) + len(held_out) <= frames + holdout
    for index in held_out:
        for other in chosen:
            assert apart(found[index], found[other]) >= DUPLICATE
    available = len(choose_frames(found, frames + holdout, seed))
    if available >= 2:
        assert (len(chosen), len(held_out)) == split_counts(available, frames, holdout)


@given(st.integers(2, 400), st.integers(1, 300), st.integers(1, 300))
def test_shares_keep_the_ratio_and_leave_no_side_empty(available, frames, holdout):
    calibrating, held = split_counts(available, frames, holdout)
    total = min(available, frames + holdout)
    assert calibrating + held == total
    assert min(calibrating, held) >= 1
    exact = total * holdout / (frames + holdout)
    assert abs(held - exact) <= 1
    if available >= frames + holdout:
        assert (calibrating, held) == (frames, holdout)


@given(seeds)
@settings(max_examples=30)
def test_both_sides_cover_every_part_of_the_scene(seed):
    """Five views, each in 40 variations: 16 held-out frames must see all of them."""
    rng = np.random.default_rng(seed)
    view = np.repeat(np.arange(5), 40)
    found = np.zeros((200, 20), np.float32)
    found[np.arange(200), view] = 1000
    found += rng.normal(0, 10, found.shape).astype(np.float32)
    for side in split_holdout(found, 64, 16, seed):
        assert set(view[list(side)]) == set(range(5))


@given(signatures, st.integers(1, 12))
def test_a_full_reservoir_keeps_neighbours_right_and_loses_the_redundant(found, capacity):
    pool = Reservoir(capacity)
    kept: set[str] = set()
    for number, one in enumerate(found):
        kept.add(str(number))
        leaving = pool.add(str(number), with_signature(one))
        if leaving is not None:
            others = found[[int(name) for name in kept - {leaving}]]
            nearest = min(apart(found[int(leaving)], other) for other in others)
            assert nearest == closest(found, kept), "it must be one of the closest two"
            kept.remove(leaving)
        assert (leaving is None) == (number < capacity)
        assert sorted(pool.names) == sorted(kept)
        for name, stored in zip(pool.names, pool.signatures, strict=True):
            assert np.array_equal(stored, found[int(name)])
    assert len(pool.names) == min(capacity, len(found))


def closest(found, names):
    """Return the smallest distance between any two frames."""
    pairs = combinations(sorted(names), 2)
    return min((apart(found[int(a)], found[int(b)]) for a, b in pairs), default=np.inf)


def with_signature(signature):
    seen = frame_features(scenes.street(0))
    return type(seen)(seen.quality, signature)


def test_the_numbers_of_a_known_picture():
    half = np.zeros((240, 320, 3), np.uint8)
    half[:, 160:] = 250
    quality = frame_features(half).quality
    assert (quality.luma, quality.dark, quality.bright) == (125, 0.5, 0.5)
    assert quality.contrast == pytest.approx(125**2)
    # A step of 250 has Laplacian +250 and -250 in two columns, gradient 125 in the same two.
    assert quality.sharpness == pytest.approx(2 * 250**2 / 318)
    assert quality.detail == pytest.approx(4)


@pytest.mark.parametrize("sigma", [1.5, 2.0, 3.0])
def test_detail_reports_the_width_of_an_edge(sigma):
    """As Quality says: 1 / (2 s^2), however many edges there are."""
    x = np.arange(320) - 159.5
    profile = np.cumsum(np.exp(-(x**2) / (2 * sigma**2)))
    edge = 20 + 200 * profile / profile[-1]
    image = np.repeat(np.repeat(edge[None, :, None], 240, 0), 3, 2)
    assert frame_features(np.round(image).astype(np.uint8)).quality.detail == pytest.approx(
        1 / (2 * sigma**2), rel=0.15
    )


@pytest.mark.parametrize("level", [0, 5, 16, 128, 235, 250, 255])
def test_empty_pictures_are_rejected_at_any_level(level):
    image = np.full((90, 120, 3), level, np.uint8)
    assert rejection_reason(frame_features(image).quality, None) == "exposure"


def test_a_street_at_night_is_no_bad_exposure():
    night = (scenes.street(1).astype(np.float32) * 0.02).astype(np.uint8)
    night[60:, 20:60] = 200  # the light of one lamp
    quality = frame_features(night).quality
    assert quality.dark > 0.8
    assert rejection_reason(quality, None) == ""


def test_blur_is_relative_to_the_scene():
    sharp = frame_features(scenes.street(1)).quality
    soft = frame_features(scenes.blurred(scenes.street(1), 3)).quality
    smooth = frame_features(scenes.gradient()).quality
    assert rejection_reason(soft, sharp.detail) == "blur"
    assert rejection_reason(soft, soft.detail) == "", "a lens that never was better"
    assert rejection_reason(soft, None) == "", "nothing to compare with yet"
    assert rejection_reason(sharp, sharp.detail) == ""
    assert rejection_reason(smooth, sharp.detail) == ""


@pytest.mark.parametrize("deviation", [1, 3, 5])
def test_noise_alone_makes_near_duplicates_and_movement_does_not(deviation):
    rng = np.random.default_rng(7)
    scene = np.kron(rng.integers(40, 200, (24, 32, 3)), np.ones((20, 20, 1)))
    moved = scene.copy()
    scene[200:240, 300:320] = 20
    moved[200:240, 305:325] = 20

    def seen(picture):
        noisy = picture + rng.normal(0, deviation, picture.shape)
        return frame_features(np.clip(noisy, 0, 255).astype(np.uint8)).signature

    assert apart(seen(scene), seen(scene)) < DUPLICATE
    assert apart(seen(scene), seen(moved)) > DUPLICATE
    assert apart(seen(scene), seen(scene + 30)) > DUPLICATE, "light is part of the scene"


@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 70), st.integers(1, 70), st.just(3)),
        elements=st.sampled_from([0, 1, 127, 255]),
    )
)
@settings(max_examples=60)
def test_any_picture_has_finite_numbers(image):
    seen = frame_features(image)
    assert seen.signature.shape == (529,)
    assert seen.signature.dtype == np.float32
    assert np.isfinite(seen.signature).all()
    numbers = [getattr(seen.quality, name) for name in seen.quality.__slots__]
    assert np.isfinite(numbers).all()


@pytest.mark.parametrize("size", [(480, 640), (1080, 1920), (576, 768), (2160, 3840)])
def test_the_same_view_looks_alike_at_any_camera_size(size):
    rows = np.arange(size[0]) * 120 // size[0]
    columns = np.arange(size[1]) * 160 // size[1]
    small = frame_features(scenes.street(3))
    large = frame_features(scenes.street(3)[rows][:, columns])
    other = frame_features(scenes.street(9))
    assert apart(small.signature, large.signature) < apart(small.signature, other.signature) / 4
