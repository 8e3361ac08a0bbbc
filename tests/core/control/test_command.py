from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.control.command import (
    CLOCK_SKEW_S,
    Command,
    CommandId,
    Receipt,
    Stage,
    is_command_id,
    judge,
    may_follow,
)
from agent.core.control.requests import Ping
from agent.core.control.ulid import Ulids

NOW_S = 1_800_000_000.0
COMMAND = Command(id=CommandId("c1"), request=Ping(), dev="cam-1", exp=NOW_S + 60, signed=True)
RECEIPT = Receipt(
    device="cam-1",
    now_s=NOW_S,
    clock_ok=True,
    retained=False,
    require_signature=True,
    max_exp_s=3600,
)


def code(command: Command, receipt: Receipt = RECEIPT) -> str | None:
    refused = judge(command, receipt)
    return refused.code if refused else None


def test_a_good_command_is_taken() -> None:
    assert code(COMMAND) is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"signed": False}, "bad_signature"),
        ({"dev": "cam-2"}, "wrong_device"),
        ({"exp": NOW_S}, "expired"),
        ({"exp": NOW_S + 0.001}, None),
        ({"nbf": NOW_S + CLOCK_SKEW_S + 1}, "not_yet"),
        ({"iat": NOW_S + CLOCK_SKEW_S + 1}, "not_yet"),
        ({"iat": NOW_S + CLOCK_SKEW_S - 1}, None),
        ({"dev": None, "exp": None}, None),
        ({"exp": NOW_S + 3600}, None),
        ({"exp": NOW_S + 3600 + CLOCK_SKEW_S}, None),
        ({"exp": NOW_S + 3600 + CLOCK_SKEW_S + 1}, "exp_too_far"),
        ({"exp": 253_402_300_799.0}, "exp_too_far"),
        ({"iat": NOW_S - 9000, "exp": NOW_S - 9000 + 3600}, "expired"),
        ({"iat": NOW_S - 3000, "exp": NOW_S + 700}, "exp_too_far"),
        ({"nbf": NOW_S - 3000, "exp": NOW_S + 700}, "exp_too_far"),
        ({"nbf": NOW_S - 3000, "iat": NOW_S - 9, "exp": NOW_S + 700}, "exp_too_far"),
    ],
)
def test_each_flaw_has_its_code(change: dict[str, object], expected: str | None) -> None:
    assert code(replace(COMMAND, **change)) == expected


def test_a_retained_command_is_refused_however_good() -> None:
    assert code(COMMAND, replace(RECEIPT, retained=True)) == "retained"


def test_how_long_a_command_is_valid_needs_no_clock_where_it_names_its_begin() -> None:
    behind = replace(RECEIPT, now_s=100.0, clock_ok=False)
    assert code(replace(COMMAND, exp=NOW_S + 9e6), behind) is None, "can't be judged"
    assert code(replace(COMMAND, exp=253_402_300_799.0), behind) == "exp_too_far"
    assert code(replace(COMMAND, iat=NOW_S, exp=NOW_S + 3600), behind) is None
    assert code(replace(COMMAND, iat=NOW_S, exp=NOW_S + 3601), behind) == "exp_too_far"


def test_a_command_for_ever_is_valid_where_none_is_signed() -> None:
    """Its sender could send it again at any time."""
    unsigned = replace(COMMAND, signed=False, exp=NOW_S * 2)
    assert code(unsigned, replace(RECEIPT, require_signature=False)) is None


def test_a_clock_that_is_behind_does_not_refuse_the_present() -> None:
    behind = replace(RECEIPT, now_s=100.0, clock_ok=False)
    assert code(replace(COMMAND, iat=NOW_S), behind) is None
    assert code(replace(COMMAND, exp=99.0), behind) == "expired"


def test_unsigned_is_taken_where_no_signature_is_required() -> None:
    assert code(replace(COMMAND, signed=False), replace(RECEIPT, require_signature=False)) is None


@given(st.lists(st.sampled_from(Stage), max_size=12))
def test_nothing_follows_an_end(path: list[Stage]) -> None:
    stage = Stage.RECEIVED
    for after in path:
        if may_follow(stage, after):
            assert not stage.final
            assert after is not Stage.RECEIVED
            stage = after


def test_every_stage_can_be_reached() -> None:
    reached = {Stage.RECEIVED}
    for _ in Stage:
        reached |= {after for before in reached for after in Stage if may_follow(before, after)}
    assert reached == set(Stage)


@pytest.mark.parametrize("text", ["", "a/b", "../x", "+", "#", "a\n", "-a", "a" * 65, "ä", "a b"])
def test_ids_that_are_no_topic_level_are_none(text: str) -> None:
    assert not is_command_id(text)


@given(st.lists(st.integers(0, 2**48 - 2), min_size=2, max_size=50))
def test_ulids_grow_whatever_the_clock_does(moments: list[int]) -> None:
    ulids = Ulids()
    made = [ulids.next(moment) for moment in moments]
    assert made == sorted(set(made))
    assert all(len(text) == 26 for text in made)


def test_a_ulid_contains_its_time() -> None:
    # The example of the specification: 01ARZ3NDEKTSV4RRFFQ69G5FAV, 1469922850259 ms.
    assert Ulids(lambda n: bytes(n)).next(1469922850259) == "01ARZ3NDEK" + "0" * 16
