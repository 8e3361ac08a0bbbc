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
    device="cam-1", now_s=NOW_S, clock_ok=True, retained=False, require_signature=True
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
    ],
)
def test_each_flaw_has_its_code(change: dict[str, object], expected: str | None) -> None:
    assert code(replace(COMMAND, **change)) == expected


def test_a_retained_command_is_refused_however_good() -> None:
    assert code(COMMAND, replace(RECEIPT, retained=True)) == "retained"


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
