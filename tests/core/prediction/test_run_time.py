"""What a run takes: what settings fix and earlier runs show is summed, the rest is named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.prediction.run_time import (
    CAPTURE,
    FINISH,
    MAKE,
    MEASURE,
    PART_OF,
    Part,
    Protocol,
    RunTime,
    duration_words,
    estimate,
    past_timings,
)
from agent.core.prediction.time_left import TimeLeft

PROTOCOL = Protocol(
    window_s=60.0, warmup_s=5.0, duration_s=30.0, idle_s=10.0, paced=False, power_decides=False,
    fast=False,
)  # fmt: skip
PAST = {"platform": 2.0, "intake_check": 3.0, "quantize": 50.0, "build": 7.0, "profile": 4.0}


def seconds(found: RunTime) -> dict[str, float | None]:
    return {part.name: part.seconds for part in found.parts}


def test_without_an_earlier_run_the_settings_alone_are_known():
    found = estimate(PROTOCOL, 8, 1, [])
    assert seconds(found) == {"capture": 60.0, MAKE: None, MEASURE: 8 * 35.0 + 10.0, FINISH: None}
    assert found.total == "at least 5 min 50 s"
    unknown = "not known, since no earlier run here had this model and these candidates"
    assert found.details == (
        "capturing: 1 min, calibration.window_s, or up to twice that if good frames are few",
        f"quantizing, building and evaluating: {unknown}",
        "measuring: 4 min 50 s, [measure]: 8 candidates, each 30 s and a warm-up of 5 s; idle 10 s",
        f"profiling and the report: {unknown}",
    )


def test_earlier_runs_show_what_no_setting_fixes():
    found = estimate(PROTOCOL, 8, 1, [PAST, {"quantize": 10.0}, {}])
    assert seconds(found)[MAKE] == 60.0
    assert seconds(found)[FINISH] == 4.0
    assert found.total == "about 6 min 54 s"
    assert found.details[1].endswith(": 1 min, as the longest of 3 earlier runs of this model")
    assert estimate(PROTOCOL, 8, 1, [PAST]).details[3].endswith("as an earlier run of this model")


@pytest.mark.parametrize(
    ("changes", "candidates", "modes", "expected_s"),
    [
        ({}, 0, 0, 0.0),
        ({"paced": True}, 2, 1, 2 * 65.0 + 10.0),
        ({"power_decides": True, "duration_s": 6.0}, 2, 1, 2 * 35.0 + 10.0),
        ({"power_decides": True, "duration_s": 60.0}, 2, 1, 2 * 65.0 + 10.0),
        ({}, 4, 2, 4 * 35.0 + 20.0),
    ],
    ids=str,
)
def test_measuring_takes_what_its_protocol_fixes(changes, candidates, modes, expected_s):
    found = estimate(replace(PROTOCOL, **changes), candidates, modes, [])
    assert seconds(found)[MEASURE] == expected_s


def test_reused_frames_take_no_time_and_a_fast_search_may_take_less():
    found = estimate(replace(PROTOCOL, window_s=0.0, fast=True), 8, 1, [PAST])
    assert seconds(found)["capture"] == 0.0
    assert found.details[0] == "capturing: 0 s, frames are reused"
    assert found.details[2].endswith("less where a fast search leaves candidates out")


def report(model: object = "a", ids: object = ("x", "y"), timings: object = PAST) -> dict:
    return {
        "model": {"sha256": model},
        "candidates": [{"id": one} for one in ids] if isinstance(ids, tuple) else ids,
        "timings_s": timings,
    }


def test_only_runs_of_the_same_model_and_candidates_are_taken_as_an_example():
    others = [report("b"), report(ids=("x",)), report(ids=("x", "y", "z"))]
    assert past_timings([*others, report()], "a", frozenset({"x", "y"})) == (PAST,)


@pytest.mark.parametrize(
    "damaged",
    [
        {}, [], report(3), report(ids=None), report(ids=[3, None]), report(timings=[1.0]),
        report(timings={"build": "long"}) | {"candidates": [{"id": ["x"]}]},
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_report_is_no_example(damaged):
    assert past_timings([damaged], "a", frozenset({"x", "y"})) == ()


def test_a_time_that_is_no_number_is_left_out():
    timings = {"build": "long", "quantize": 2}
    assert past_timings([report(timings=timings)], "a", frozenset("xy")) == ({"quantize": 2.0},)


@pytest.mark.parametrize(
    ("duration_s", "words"),
    [
        (0, "0 s"), (0.5, "under 1 s"), (59.4, "59 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3599, "59 min 59 s"),
        (3600, "1 h"), (3661, "1 h 1 min"), (7199, "2 h"),
    ],
)  # fmt: skip
def test_a_duration_is_written_as_people_read_it(duration_s, words):
    assert duration_words(duration_s) == words


KNOWN = estimate(PROTOCOL, 8, 1, [PAST])


def test_what_is_left_shrinks_with_the_time_and_with_each_part():
    left = TimeLeft(expected=KNOWN, began_s=100.0)
    assert (left.left_s, left.spent_s) == (60.0 + 60.0 + 290.0 + 4.0, 0.0)
    left.observe("capture", 0, 60, 101.0)
    left.observe("capture", 30, 60, 131.0)
    assert left.left_s == 30.0 + 60.0 + 290.0 + 4.0
    assert left.words == "6 min 24 s left"
    left.observe("quantize", 0, 8, 165.0)
    left.observe("statistics", 3, 9, 175.0)
    assert left.left_s == 50.0 + 290.0 + 4.0
    left.observe("measure", 0, 0, 190.0)
    assert left.left_s == 290.0 + 4.0
    left.observe("report", 0, 1, 400.0)
    assert left.words == "4 s left"


def test_a_part_that_takes_longer_is_judged_by_its_steps_or_not_known():
    left = TimeLeft(expected=KNOWN, began_s=0.0)
    left.observe("measure", 0, 10, 0.0)
    left.observe("measure", 5, 10, 400.0)
    assert left.left_s == 400.0 + 4.0
    slow = TimeLeft(expected=KNOWN, began_s=0.0)
    slow.observe("quantize", 0, 8, 0.0)
    slow.observe("quantize", 4, 8, 61.0)  # its steps are not alike
    assert slow.words == "at least 4 min 54 s left"


def test_steps_that_are_skipped_shorten_what_is_left():
    """As those of candidates that a fast search leaves out."""
    left = TimeLeft(expected=KNOWN, began_s=0.0)
    left.observe("measure", 0, 100, 0.0)
    left.observe("measure", 20, 100, 10.0)
    assert left.left_s == 280.0 + 4.0
    left.observe("measure", 90, 100, 90.0)
    assert left.left_s == pytest.approx(10.0 + 4.0)


def test_without_an_estimate_of_a_part_what_is_left_is_a_lower_bound():
    left = TimeLeft(expected=estimate(PROTOCOL, 8, 1, []), began_s=0.0)
    left.observe("build", 1, 8, 5.0)
    assert left.words == "at least 4 min 50 s left"
    left.observe("report", 0, 1, 9.0)
    assert left.words == "time left not known"


def test_a_lower_bound_under_a_second_is_no_information():
    parts = (Part(name=MAKE, seconds=None, basis=""), Part(name=MEASURE, seconds=0.4, basis=""))
    left = TimeLeft(expected=RunTime(parts=parts), began_s=0.0)
    left.observe("build", 1, 8, 5.0)
    assert left.words == "time left not known"


def test_a_search_that_goes_back_is_not_known_any_more():
    left = TimeLeft(expected=KNOWN, began_s=0.0)
    for stage in ("quantize", "measure", "build"):
        left.observe(stage, 1, 2, 1.0)
    assert left.words == "at least 4 s left"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*PART_OF, "platform", "waiting"]),
            st.integers(0, 9),
            st.integers(0, 9),
            st.floats(0.0, 1e4),
        )
    ),
    st.lists(st.one_of(st.none(), st.floats(0.0, 1e5)), min_size=4, max_size=4),
)
def test_whatever_progress_comes_what_is_left_is_a_time(steps, known):
    parts = [
        Part(name=n, seconds=s, basis="")
        for n, s in zip((CAPTURE, MAKE, MEASURE, FINISH), known, strict=True)
    ]
    left, now_s = TimeLeft(expected=RunTime(parts=tuple(parts)), began_s=7.0), 7.0
    for stage, done, total, passed_s in steps:
        now_s += passed_s
        left.observe(stage, min(done, total), total, now_s)
        assert left.left_s >= 0.0
        assert left.words
    assert left.spent_s == pytest.approx(now_s - 7.0)
