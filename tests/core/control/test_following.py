from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from agent.core.control.command import CommandId, Stage
from agent.core.control.following import Followed, exit_code


def followed(stage: Stage | None = None, version: int = -1, code: str = "") -> Followed:
    return Followed(device="d", id=CommandId("c"), stage=stage, version=version, code=code)


COURSE = [
    followed(Stage.ACCEPTED, 1),
    followed(Stage.QUEUED, 2),
    followed(Stage.IN_PROGRESS, 3),
    followed(Stage.SUCCEEDED, 4),
]


@given(st.permutations(COURSE), st.lists(st.sampled_from(COURSE)))
def test_answers_may_come_twice_and_in_any_order(first: list[Followed], more: list[Followed]):
    assert reduce(Followed.answered, [*first, *more], followed()) == COURSE[-1]


def test_a_refusal_that_was_not_stored_does_not_end_a_stored_command():
    forged = followed(Stage.REJECTED, 0, "bad_signature")
    assert followed().answered(forged).ended
    assert COURSE[0].answered(forged) == COURSE[0]
    assert followed().answered(forged).answered(COURSE[0]) == COURSE[0]


def test_what_has_ended_is_not_lost():
    assert COURSE[-1].lost("expired") == COURSE[-1]
    assert COURSE[0].lost("expired").ended


def test_the_exit_code_is_that_of_all():
    good, back = followed(Stage.SUCCEEDED), followed(Stage.ROLLED_BACK)
    infeasible = followed(Stage.FAILED, code="infeasible")
    assert exit_code([good, good]) == 0
    assert exit_code([good, back, back]) == 4
    assert exit_code([infeasible, good]) == 3
    for bad in (followed(), followed(Stage.REJECTED), followed(Stage.FAILED), good.lost("x")):
        assert exit_code([good, bad]) == (0 if bad is good else 1)
    assert exit_code([back, infeasible]) == 1
