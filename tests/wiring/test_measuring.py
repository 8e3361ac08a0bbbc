"""What is said of measurements during which the machine was changed."""

from __future__ import annotations

import pytest

from agent.core.errors import PowerError
from agent.core.lineage import Measurements
from agent.wiring import measuring
from tests.support.candidates import measurement


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("15W", "15W", ""),
        ("15W", "7W", "the power mode changed from 15W to 7W meanwhile"),
        ("", "", ""),
        ("15W", "", ""),  # nvpmodel did not answer in time
    ],
)
def test_a_power_mode_that_something_else_has_set_is_told(before, after, words):
    found = Measurements(measured={"a": measurement()}, failed={})
    assert measuring._with_mode(found, before, after).measured["a"].mode_change == words


def test_a_machine_without_power_modes_has_none():
    class Without:
        def current(self) -> str:
            raise PowerError("nvpmodel tells no power mode", code="power_mode")

    assert measuring._present(Without()) == ""
