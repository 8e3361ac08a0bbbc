from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from agent.core.control.command import CommandId, Stage
from agent.core.control.following import ABSENT, Followed, Following, exit_code


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


KEYS = [("a", CommandId("c")), ("b", CommandId("c"))]


def answer(device: str, stage: Stage | None = None, version: int = 1, **more: str) -> Followed:
    return Followed(device=device, id=CommandId("c"), stage=stage, version=version, **more)


def test_what_has_ended_is_no_longer_waited_for():
    following = Following(dict.fromkeys(KEYS, 100.0))
    following.take(answer("a", Stage.ACCEPTED), 0.0)
    following.take(answer("x", Stage.FAILED), 0.0)
    assert list(following.waiting) == KEYS
    following.take(answer("a", Stage.SUCCEEDED, 2), 1.0)
    assert list(following.waiting) == KEYS[1:]
    assert [one.stage for one in following.found] == [Stage.SUCCEEDED, None]


def test_only_what_was_never_answered_expires():
    following = Following(dict.fromkeys(KEYS, 100.0))
    following.take(answer("a", Stage.IN_PROGRESS), 0.0)
    following.expire(105.0)
    assert list(following.waiting) == KEYS
    following.expire(111.0)
    assert list(following.waiting) == KEYS[:1]
    assert following.found[1].trouble == "it expired without an answer"


def test_a_device_that_is_not_there_yet_is_sent_the_command_again_for_a_while():
    following = Following(dict.fromkeys(KEYS, 1e9))
    sent = 0
    for second in range(60):
        if second == 0 or following.due(float(second)):
            sent += 1
            following.take(answer("a", code=ABSENT, trouble="no device"), float(second))
    assert 5 < sent < 15
    assert list(following.waiting) == KEYS[1:]
    assert following.found[0].trouble == "no device"
    hasty = Following(dict.fromkeys(KEYS, 1e9), patient=False)
    hasty.take(answer("a", code=ABSENT, trouble="no device"), 0.0)
    assert list(hasty.waiting) == KEYS[1:]


def test_a_device_that_answers_after_all_is_not_sent_it_again():
    following = Following(dict.fromkeys(KEYS, 1e9))
    following.take(answer("a", code=ABSENT, trouble="no device"), 0.0)
    assert following.due(3.0) == KEYS[:1]
    following.take(answer("a", Stage.SUCCEEDED), 4.0)
    assert following.due(9.0) == []
