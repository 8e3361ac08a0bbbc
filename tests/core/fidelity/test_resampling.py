"""Intervals over frames: how often they hold the truth, and what they say of few frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.core.fidelity.comparison import Comparison
from agent.core.fidelity.resampling import agreement_ci95, bootstrap_ci95, share_ci95


def mean_of(values):
    return lambda counts: counts @ values / counts.sum(axis=1)


def coverage(draw, truth, trials, frames):
    """Return how often the interval of a mean holds the truth."""
    held, rng = 0, np.random.default_rng(7)
    for _ in range(trials):
        values = draw(rng, frames)
        low, high = agreement_ci95(mean_of(values), float(values.mean()), frames, frames)
        held += low <= truth <= high
    return held / trials


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda rng, n: rng.beta(8, 2, n), 0.8),
        (lambda rng, n: (rng.random(n) < 0.9).astype(float), 0.9),
        (lambda rng, n: (rng.random(n) < 0.99).astype(float), 0.99),
    ],
    ids=["overlaps", "one in ten differs", "one in a hundred differs"],
)
def test_the_interval_holds_the_truth_nineteen_times_of_twenty(draw, truth):
    assert coverage(draw, truth, 200, 32) >= 0.9  # 0.95 less 3 standard errors of 200 trials


def test_the_interval_is_not_wider_than_it_must_be():
    values = np.random.default_rng(7).normal(0.5, 0.1, 64)
    low, high = bootstrap_ci95(mean_of(values), 64)
    usual = 2 * 1.96 * values.std() / 8
    assert 0.9 * usual < high - low < 1.25 * usual


def test_full_agreement_of_few_frames_is_not_certain():
    low, high = agreement_ci95(mean_of(np.ones(32)), 1.0, 32, 32)
    assert (low, high) == (pytest.approx(32 / (32 + 1.96**2), abs=1e-4), 1.0)
    assert agreement_ci95(mean_of(np.zeros(32)), 0.0, 32, 32)[0] == 0.0


@given(share=st.floats(0, 1), frames=st.integers(8, 10_000))
@example(share=0.9999999999999999, frames=129)
def test_a_share_lies_in_its_interval(share, frames):
    low, high = share_ci95(share, frames)
    assert 0 <= low <= share <= high <= 1
    wider = share_ci95(share, frames // 2) if frames >= 16 else (0.0, 1.0)
    assert wider[1] - wider[0] >= high - low


@pytest.mark.parametrize("frames", [0, 1, 7])
def test_few_frames_decide_nothing(frames):
    assert bootstrap_ci95(mean_of(np.ones(frames)), frames) is None
    assert share_ci95(1.0, frames) is None


def test_a_number_that_most_resamples_do_not_have_has_no_interval():
    assert bootstrap_ci95(lambda counts: np.where(counts[:, 0] > 2, 1.0, np.nan), 50) is None
    assert bootstrap_ci95(lambda counts: np.where(counts[:, 0] > 0, 1.0, np.inf), 50) is None


def test_many_frames_are_drawn_in_bounded_memory():
    rows = []

    def statistic(counts):
        rows.append(counts.shape)
        return counts.sum(axis=1)

    assert bootstrap_ci95(statistic, 2_000) == (2_000, 2_000)
    assert sum(drawn for drawn, _ in rows) == 1000
    assert all(drawn * frames <= 1_000_000 for drawn, frames in rows)


def test_sqnr_of_frames_of_the_same_noise_is_sure_and_of_a_worse_half_is_not():
    def compared(noises):
        comparison = Comparison("generic")
        signal = np.ones((1, 100))
        for noise in noises:
            comparison.add({"y": signal}, {"y": signal + noise})
        return comparison.result()

    sure = compared([0.1] * 16)
    assert sure.sqnr_db == pytest.approx(20)
    assert sure.sqnr_db_ci95 == pytest.approx((20, 20))
    unsure = compared([0.1] * 8 + [0.3] * 8)
    low, high = unsure.sqnr_db_ci95
    assert low < unsure.sqnr_db - 0.5 < unsure.sqnr_db + 0.5 < high
    assert compared([0.1] * 7).sqnr_db_ci95 is None
    assert compared([0.0] * 20).sqnr_db_ci95 is None
    assert compared([0.0] * 19 + [0.1]).sqnr_db_ci95 is None  # some resamples have no noise at all


def test_the_worst_output_may_be_another_one_on_other_frames():
    comparison = Comparison("generic")
    for index in range(20):
        one, other = (0.3, 0.1) if index % 2 else (0.1, 0.3)
        comparison.add(
            {"a": np.ones(9), "b": np.ones(9)}, {"a": np.ones(9) + one, "b": np.ones(9) + other}
        )
    found = comparison.result()
    assert found.sqnr_db == pytest.approx(10 * np.log10(1 / 0.05))
    assert found.sqnr_db_ci95[1] <= found.sqnr_db + 1e-9  # whichever is worse is worse


def test_frames_of_a_batch_are_counted_one_by_one():
    scores = np.random.default_rng(7).random((32, 4))
    other = scores.copy()
    other[::4] = other[::4, ::-1]
    singly, together = Comparison("classification"), Comparison("classification")
    for expected, seen in zip(scores, other, strict=True):
        singly.add({"y": expected[None]}, {"y": seen[None]})
    for begin in range(0, 32, 8):
        part = slice(begin, begin + 8)
        together.add({"y": scores[part]}, {"y": other[part]}, frames=8)
    assert together.result() == singly.result()
    assert together.result().agreement == 0.75
    low, high = together.result().agreement_ci95
    assert 0.5 < low < 0.7
    assert 0.8 < high < 1


def test_a_batch_that_is_not_the_first_axis_counts_as_one():
    comparison = Comparison("generic")
    for _ in range(8):
        comparison.add({"y": np.ones(3)}, {"y": np.ones(3) * 1.1}, frames=2)
    found = comparison.result()
    assert (found.frames, found.sqnr_db_ci95) == (16, pytest.approx((20, 20)))


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_every_agreement_lies_in_its_interval(task):
    comparison, rng = Comparison(task), np.random.default_rng(7)
    for _ in range(20):
        values = rng.standard_normal((1, 3, 8, 8) if task == "segmentation" else (1, 9))
        comparison.add({"y": values}, {"y": values + rng.standard_normal(values.shape) / 2})
    found = comparison.result()
    low, high = found.agreement_ci95
    assert 0 < low < found.agreement < high < 1
