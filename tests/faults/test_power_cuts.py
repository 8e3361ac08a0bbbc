"""The power of a working device is cut at random moments: it comes back whole, each time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.broker import any_broker
from tests.support.power_cuts import device, series

SEED = int(os.environ.get("QUANTD_SEED", "1"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("number", "cuts"),
    [
        pytest.param(0, 4, marks=pytest.mark.slow),
        *(pytest.param(number, 10, marks=pytest.mark.faults) for number in (1, 2, 3)),
    ],
)
def test_a_device_is_whole_after_every_cut(tmp_path: Path, number: int, cuts: int) -> None:
    seed = 1000 * SEED + number
    with any_broker(tmp_path) as broker, device(tmp_path, broker) as found:
        series(found, seed, cuts)
    assert not found.faults, "\n".join(
        map(str, [f"QUANTD_SEED={SEED}", found.counts, *found.faults])
    )
