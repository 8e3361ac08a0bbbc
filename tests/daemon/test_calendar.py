from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from agent.daemon.calendar import Calendar

BEGIN = datetime(2026, 3, 2, 12, 0, 30)  # a Monday


class Wall:
    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> datetime:
        return self.now


def times(calendar: Calendar, wall: Wall, hours: float, step_s: float = 20) -> list[datetime]:
    """Return when runs began while the clock went on evenly."""
    begun = []
    end = wall.now + timedelta(hours=hours)
    while wall.now < end:
        wall.now += timedelta(seconds=step_s)
        if calendar.due():
            begun.append(wall.now.replace(second=0))
    return begun


def test_each_scheduled_minute_begins_one_run() -> None:
    wall = Wall()
    calendar = Calendar("15 */2 * * *", "", wall)
    assert times(calendar, wall, 6) == [datetime(2026, 3, 2, hour, 15) for hour in (12, 14, 16)]


def test_a_run_waits_for_its_window() -> None:
    wall = Wall()
    calendar = Calendar("30 12 * * *", "* 1-4 * * *", wall)
    assert times(calendar, wall, 24) == [datetime(2026, 3, 3, 1, 0)]


def test_without_a_schedule_nothing_is_due() -> None:
    wall = Wall()
    assert times(Calendar("", "* * * * *", wall), wall, 24) == []


@given(jump=st.timedeltas(timedelta(hours=2), timedelta(days=20_000)), back=st.booleans())
def test_a_clock_that_jumps_begins_nothing(jump: timedelta, back: bool) -> None:
    wall = Wall()
    calendar = Calendar("0 0 * * *", "", wall)
    wall.now += -jump if back else jump
    wall.now = wall.now.replace(hour=12)
    assert not calendar.due()
    (begun,) = times(calendar, wall, 24)
    assert (begun.hour, begun.minute) == (0, 0)
