"""Percentiles, their confidence, steadiness and the order of rounds."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.measurement.latency import (
    gets_warmer,
    is_level,
    percentile,
    schedule,
    sketch,
    steady,
    summarize,
    warmed_up,
)
from tests.benchmarks.measuring.intervals import FEW, PROCESSES, SHAPES, coverage

times_ns = st.lists(st.integers(1, 10**12), min_size=1, max_size=40)
rounds_ns = st.lists(times_ns, min_size=1, max_size=6)


def arrays(rounds):
    return [np.array(one, np.int64) for one in rounds]


def noisy_rounds(rng, levels_ms, runs=200, noise=0.02):
    return [
        (is_level * 1e6 * rng.lognormal(0, noise, runs)).astype(np.int64) for is_level in levels_ms
    ]  # fmt: skip


@given(names=st.sets(st.text(min_size=1, max_size=3), max_size=8), rounds=st.integers(0, 20))
def test_every_round_visits_every_candidate_once(names, rounds):
    order = schedule(sorted(names), rounds, seed=7)
    assert len(order) == rounds
    assert all(sorted(one) == sorted(names) for one in order)


def test_the_order_depends_on_the_seed_only_and_changes_between_rounds():
    names = list("abcdefgh")
    assert schedule(names, 9, 1) == schedule(names, 9, 1)
    assert schedule(names, 9, 1) != schedule(names, 9, 2)
    assert len({tuple(one) for one in schedule(names, 9, 1)}) > 1


@pytest.mark.parametrize(
    ("count", "percent", "rank"),
    [
        (100, 50, 50),
        (100, 99, 99),
        (101, 99, 100),
        (1, 99, 1),
        (7, 50, 4),
        (10, 90, 9),
        (100, 7, 7),
    ],
)
def test_percentiles_are_nearest_rank(count, percent, rank):
    assert percentile(np.arange(1, count + 1), percent) == rank


@settings(deadline=None, max_examples=12)
@given(rounds=rounds_ns)
def test_percentiles_are_samples_in_order_and_the_intervals_hold_them(rounds):
    found = summarize(arrays(rounds))
    samples_ms = {value / 1e6 for one in rounds for value in one}
    assert {found.p50, found.p90, found.p99} <= samples_ms
    assert found.p50 <= found.p90 <= found.p99
    for span, value in ((found.ci95_p50, found.p50), (found.ci95_p99, found.p99)):
        assert span is not None or found.ci95_reason
        low, high = span or (value, value)
        assert 0 <= low <= value * (1 + 1e-9)
        assert value * (1 - 1e-9) <= high < float("inf")
    assert summarize(arrays(rounds)) == found


@settings(deadline=None, max_examples=12)
@given(rounds=rounds_ns, data=st.data())
def test_percentiles_do_not_depend_on_the_order_of_samples(rounds, data):
    flat = [value for one in rounds for value in one]
    shuffled = summarize(arrays([data.draw(st.permutations(flat))]))
    found = summarize(arrays(rounds))
    assert (shuffled.p50, shuffled.p90, shuffled.p99) == (found.p50, found.p90, found.p99)


def test_rounds_that_differ_widen_the_interval():
    rng = np.random.default_rng(3)
    alike = summarize(noisy_rounds(rng, [10, 10, 10, 10, 10])).ci95_p50
    apart = summarize(noisy_rounds(rng, [9.5, 10.5, 10, 9.8, 10.2])).ci95_p50
    assert alike[1] - alike[0] < 0.15
    assert apart[1] - apart[0] > 0.3


def test_the_interval_covers_the_true_median_where_rounds_have_their_own_level():
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(20):
        rounds = noisy_rounds(rng, 10 * rng.lognormal(0, 0.03, 5), runs=40)
        low, high = summarize(rounds).ci95_p50
        covered += low <= 10 <= high
    assert covered >= 17  # 19; a bootstrap of the rounds covers 17, of their blocks alone 11


def test_a_million_runs_are_summarized_like_their_sample():
    rng = np.random.default_rng(5)
    many = noisy_rounds(rng, [1, 1, 1, 1, 1], runs=100_000, noise=0.2)
    low, high = summarize(many).ci95_p50
    assert low < 1.0 < high
    assert high - low < 0.03


@pytest.mark.parametrize(
    ("levels_ms", "expected"),
    [
        ([10, 10, 10, 10, 10], True),
        ([10, 10.1, 9.9, 10, 10.1], True),
        ([10, 10.3, 10.6, 10.9, 11.2], False),
        ([11, 11, 10, 10, 10], False),
        ([10, 10, 10, 13, 10], True),
        ([13, 10, 10, 10, 10], True),
        ([10, 10, 13, 10, 13], False),
        ([10, 13, 10], False),
        ([10, 11], False),
        ([10], True),
    ],
)
def test_a_drift_or_several_disturbed_rounds_are_not_steady(levels_ms, expected):
    assert steady(noisy_rounds(np.random.default_rng(1), levels_ms)) is expected


def test_a_drift_inside_one_round_is_seen():
    rng = np.random.default_rng(2)
    assert not steady([np.concatenate(noisy_rounds(rng, [10, 11]))])


def test_few_very_noisy_runs_are_not_taken_for_a_drift():
    rounds = arrays([[10, 17, 12, 9, 16], [13, 9, 18, 11, 14]])
    assert steady(rounds)
    assert not steady(arrays([[10, 10, 10, 10, 10], [14, 14, 14, 14, 14]]))


def test_one_run_alone_proves_nothing():
    assert not steady(arrays([[5]]))


def test_single_slow_inferences_do_not_make_it_unsteady():
    rounds = noisy_rounds(np.random.default_rng(4), [10] * 5)
    rounds[3][:20] = 500_000_000
    assert steady(rounds)


@given(rounds=rounds_ns)
def test_the_sketch_is_ordered_and_keeps_the_ends(rounds):
    flat = sorted(value / 1e6 for one in rounds for value in one)
    found = sketch(arrays(rounds))
    assert list(found) == sorted(found)
    assert (found[0], found[-1]) == (flat[0], flat[-1])
    assert len(found) == min(512, len(flat))


def test_the_sketch_of_many_has_512_points():
    assert len(sketch([np.arange(1, 5001)])) == 512


def slices(medians_ns, noise=0.0, runs=50):
    """Return what warm-up saw: the times of each slice, their noise a share of the median."""
    rng = np.random.default_rng(12)
    return [(one * rng.lognormal(0, noise, runs)).astype(np.int64) for one in medians_ns]


@pytest.mark.parametrize(
    ("medians_ns", "expected"),
    [
        ([], False),
        ([10000, 10000], False),
        ([30000, 20000, 10000], False),
        ([30000, 10000, 10100, 10050], True),
        ([10000, 10000, 10000, 10300], False),
    ],
)
def test_warm_up_ends_when_three_slices_agree(medians_ns, expected):
    assert is_level(slices(medians_ns)) is expected


def test_warm_up_does_not_wait_for_what_noise_hides():
    assert not is_level(slices([10000, 10000, 10500], noise=0.02))
    assert is_level(slices([10000, 10000, 10500], noise=0.2))


def test_a_warm_up_that_had_to_end_is_judged_by_what_a_drift_is():
    assert warmed_up(slices([10000, 10000, 10300]))
    assert not warmed_up(slices([10000, 10000, 10600]))


def test_a_warm_up_of_fewer_than_three_slices_is_judged_in_three_parts():
    assert warmed_up(slices([10000], runs=5))
    assert warmed_up(slices([10000, 10200], runs=5))
    assert not warmed_up([np.array([16000, 15000, 12000, 11000, 10000])])
    assert not warmed_up(slices([20000, 10000], runs=5))


@pytest.mark.parametrize(
    ("temps_c", "apart_s", "rises"),
    [
        ([], 0.5, False),
        ([40.0, 44.0, 47.0], 0.5, True),
        ([40.0, 42.0, 44.0, 47.0, 47.0, 47.1, 47.0, 47.1], 0.5, False),
        ([47.0, 47.5], 0.5, False),
        ([47.0, 47.0, 47.0, 47.5, 47.0, 47.5, 47.0, 47.5], 0.5, False),  # the zone has steps of 0.5
        ([47.0, 47.1, 47.2, 47.3, 47.4], 0.5, True),  # 6 deg C in 30 s, and no 1 deg C yet
        ([47.0, 47.1, 47.2, 47.3, 47.4], 6.0, False),  # half a degree in 30 s
        ([50.0, 49.0, 48.0, 47.0], 0.5, False),  # it cools down after another candidate
    ],
    ids=["none", "rising", "risen", "few", "steps", "slowly rising", "as good as flat", "falling"],
)
def test_the_later_half_of_warm_up_reports_whether_it_still_gets_warmer(temps_c, apart_s, rises):
    readings = [(index * apart_s, temp_c) for index, temp_c in enumerate(temps_c)]
    assert gets_warmer(readings) is rises


def test_a_single_round_reports_no_interval_and_why():
    rng = np.random.default_rng(6)
    found = summarize(noisy_rounds(rng, [10], runs=5000))
    assert (found.ci95_p50, found.ci95_p99) == (None, None)
    assert found.ci95_reason == "of a single round"


@pytest.mark.parametrize(
    ("runs", "known"), [(5, False), (73, False), (80, True), (600, True)], ids="{}".format
)
def test_p99_of_few_runs_has_no_interval(runs, known):
    """Of 25 runs the slowest is faster than p99 in three cases of four."""
    found = summarize(noisy_rounds(np.random.default_rng(8), [10] * 5, runs=runs))
    assert found.ci95_p50 is not None
    assert (found.ci95_p99 is not None) is known
    assert bool(found.ci95_reason) is not known
    if not known:
        assert found.ci95_reason.startswith(f"p99 of {5 * runs} runs only")


def test_runs_that_are_slow_together_are_reported_as_fewer():
    calm = noisy_rounds(np.random.default_rng(9), [10] * 5, runs=100, noise=0.001)
    for one in calm:
        one[40:60] *= 2
    assert re.search("500 runs only, worth [1-9][0-9]? independ", summarize(calm).ci95_reason)


def test_a_burst_in_one_round_of_five_is_all_that_the_tail_is_made_of():
    rounds = noisy_rounds(np.random.default_rng(9), [10] * 5, runs=600, noise=0.01)
    assert summarize(rounds).ci95_p99 is not None
    rounds[2][100:200] *= 2
    assert re.search("3000 runs only, worth 1[0-9][0-9] independ", summarize(rounds).ci95_reason)


@pytest.mark.parametrize("rise", [0.0, 0.04, 0.3, -0.3])
def test_a_drift_widens_no_interval(rise):
    levels = [10 * (1 + rise * step / 4) for step in range(5)]
    low, high = summarize(noisy_rounds(np.random.default_rng(10), levels)).ci95_p50
    assert high / low < 1.03


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("shapes", [SHAPES, FEW], ids=["usual", "few"])
def test_the_intervals_cover_what_they_promise(name, shapes):
    """`make bench-measure` prints the figures; this is far enough away not to fail by chance."""
    found = coverage(PROCESSES[name], 60, shapes)
    assert 0.88 < found.p50 <= 1.0
    assert found.p99 is None or found.p99 > 0.85
    assert (found.p99 is None) is (shapes is FEW)
