"""What hangs is not waited for, and is not begun twice."""

from __future__ import annotations

import threading

from agent.daemon.cached_lookup import CachedLookup


def test_a_look_that_hangs_is_not_waited_for_and_returned_when_it_has_ended() -> None:
    begun: list[int] = []
    free = threading.Event()

    def look() -> dict[str, int]:
        begun.append(1)
        if len(begun) == 2:
            free.wait(60)
        return {"looks": len(begun)}

    lookup = CachedLookup(look, 5.0)
    assert lookup() == {"looks": 1}
    lookup._timeout_s = 0.01
    assert lookup() == {"looks": 1}
    assert lookup() == {"looks": 1}
    free.set()
    lookup._timeout_s = 5.0
    assert lookup() == {"looks": 2}
    assert len(begun) == 2
