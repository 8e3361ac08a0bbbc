"""Frames that judge INT8 are none that it was made from, and all frames are used in the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.quantization.division import divide


@given(st.integers(min_value=2, max_value=300))
def test_no_frame_judges_what_was_made_from_it(count):
    found = divide(range(count))
    assert sorted((*found.parts[0], *found.parts[1])) == list(range(count))
    for made, judged in found.folds:
        assert made != judged
        assert found.parts[made]
        assert found.parts[judged]


@given(st.integers(min_value=64, max_value=600))
def test_a_quarter_of_many_frames_is_set_aside_once(count):
    found = divide(range(count))
    assert found.folds == ((0, 1),)
    assert len(found.parts[1]) in {count // 4, count // 4 + 1}
    assert len(found.parts[1]) >= 16
    assert found.sources == ((0,), (0, 1))


@given(st.integers(min_value=2, max_value=63))
def test_each_of_few_frames_judges_once(count):
    found = divide(range(count))
    judging = [frame for _, judged in found.folds for frame in found.parts[judged]]
    assert sorted(judging) == list(range(count))
    assert abs(len(found.parts[0]) - len(found.parts[1])) <= 1
    assert found.sources == ((0,), (1,), (0, 1))


def test_a_single_frame_judges_itself():
    found = divide(["only"])
    assert found.parts == (("only",), ())
    assert found.folds == ((0, 0),)
