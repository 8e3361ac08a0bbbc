from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.control.token_bucket import TokenBucket

S = 1_000_000_000


def test_a_burst_is_followed_by_the_steady_rate() -> None:
    bucket = TokenBucket(burst=3, per_s=0.5)
    assert [bucket.take(7 * S) for _ in range(5)] == [True, True, True, False, False]
    assert [bucket.take(8 * S), bucket.take(9 * S), bucket.take(9 * S)] == [False, True, False]


def test_no_more_than_a_burst_is_saved_up() -> None:
    bucket = TokenBucket(burst=2, per_s=10)
    assert sum(bucket.take(10**6 * S) for _ in range(9)) == 2


@given(st.lists(st.integers(0, 3 * S), max_size=200))
def test_never_more_than_burst_and_rate_allow(steps: list[int]) -> None:
    bucket, now_ns, taken = TokenBucket(burst=5, per_s=2), 0, 0
    for step in steps:
        now_ns += step
        taken += bucket.take(now_ns)
        assert taken <= 5 + 2 * now_ns / S + 1e-6
