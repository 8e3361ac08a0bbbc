"""Who is measured on in a fast search."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.core.choice.limits import keeps_so_far
from agent.core.measurement.elimination import survivors, within_limits


def went_on(found, frames, baselines, spares, kept=None):
    return survivors(found, frames, baselines, spares, set(found) if kept is None else kept)


def keeping(found, batches, latency_p99_ms, fps):
    bounds = {"latency_p99_ms": latency_p99_ms, "fps": fps}
    return within_limits(found, batches, lambda timing: keeps_so_far(timing, bounds))


def rounds(*medians_ms):
    return [np.full(10, ms * 1e6, np.int64) for ms in medians_ms]


def test_candidates_that_can_still_win_continue_and_the_baseline_for_three_rounds():
    found = {
        "fp32": rounds(20, 21),
        "a": rounds(10, 11),
        "b": rounds(10.9, 12),
        "c": rounds(13, 14),
    }
    frames = dict.fromkeys(found, 1)
    assert went_on(found, frames, ["fp32"], {}) == {"fp32", "a", "b"}
    assert went_on(found, {**frames, "c": 4}, [], {}) == {"c"}
    longer = {name: [*one, one[-1]] for name, one in found.items()}
    assert went_on(longer, frames, ["fp32"], {}) == {"a", "b"}
    assert went_on({name: one[:1] for name, one in found.items()}, frames, [], {}) == set(found)


@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.lists(st.floats(0.01, 1e3), min_size=3, max_size=3),
        min_size=1,
    )
)
def test_the_leader_is_never_dropped(medians):
    found = {name: rounds(*values) for name, values in medians.items()}
    kept = went_on(found, dict.fromkeys(found, 1), [], {})
    leader = min(found, key=lambda name: max(float(np.median(r)) for r in found[name]))
    assert leader in kept


def test_a_spare_is_measured_only_while_the_other_is_disturbed():
    twins = {"int8-a": "int8-b"}
    found = {"int8-a": rounds(10, 10.1), "int8-b": rounds(10.1, 10.2), "fp16": rounds(10, 10)}
    frames = dict.fromkeys(found, 1)
    assert went_on(found, frames, [], twins) == {"int8-b", "fp16"}
    disturbed = {**found, "int8-b": rounds(10.1, 14)}
    assert went_on(disturbed, frames, [], twins) == set(found)
    gone = {**found, "int8-b": rounds(13, 14)}
    assert went_on(gone, frames, [], twins) == {"int8-a", "fp16"}


def spiked(median_ms, spike_ms, share=0.05):
    one = np.full(100, median_ms * 1e6, np.int64)
    one[: int(100 * share)] = int(spike_ms * 1e6)
    return [one, one, one]


def test_one_that_misses_a_limit_eliminates_none_that_meets_it():
    found = {"int8": spiked(8, 30), "fp16": rounds(10, 10, 10), "slow": rounds(15, 15, 15)}
    frames = dict.fromkeys(found, 1)
    assert went_on(found, frames, [], {}) == {"int8"}
    kept = keeping(found, frames, 20.0, 0.0)
    assert kept == {"fp16", "slow"}
    assert went_on(found, frames, [], {}, kept) == {"int8", "fp16"}
    none = keeping(found, frames, 5.0, 0.0)
    assert went_on(found, frames, [], {}, none) == set(found)


def test_throughput_counts_the_frames_of_a_batch_and_the_slow_runs():
    found = {"one": rounds(10, 10), "four": rounds(20, 20), "spiked": spiked(8, 100)}
    batches = {"one": 1, "four": 4, "spiked": 1}
    assert keeping(found, batches, 0.0, 0.0) == set(found)
    assert keeping(found, batches, 0.0, 90.0) == {"one", "four"}
    assert keeping(found, batches, 0.0, 150.0) == {"four"}
    assert keeping({"none": []}, {"none": 1}, 0.0, 0.0) == frozenset()


def test_a_spare_goes_on_while_the_one_it_stands_by_for_misses_a_limit():
    found = {"int8-a": rounds(10, 10), "int8-b": spiked(10, 30)[:2]}
    frames = dict.fromkeys(found, 1)
    kept = keeping(found, frames, 20.0, 0.0)
    assert went_on(found, frames, [], {"int8-a": "int8-b"}) == {"int8-b"}
    assert went_on(found, frames, [], {"int8-a": "int8-b"}, kept) == set(found)


@given(
    st.dictionaries(
        st.sampled_from("abcdef"), st.tuples(st.floats(1, 100), st.floats(1, 3)), min_size=1
    ),
    st.floats(0, 200),
    st.floats(0, 200),
)
def test_the_best_of_those_that_keep_a_limit_always_continues(found, limit_ms, looser_by):
    runs = {name: spiked(ms, ms * by) for name, (ms, by) in found.items()}
    frames = dict.fromkeys(runs, 1)
    kept = keeping(runs, frames, limit_ms, 0.0)
    gone_on = went_on(runs, frames, [], {}, kept)
    assert gone_on == set(runs) if not kept else gone_on >= {min(kept, key=lambda n: found[n][0])}
    assert kept <= keeping(runs, frames, limit_ms + looser_by, 0.0) or not limit_ms
