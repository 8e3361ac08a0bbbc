"""The stores of the fleet, each new and empty."""

from __future__ import annotations

import pytest

from agent.fleet.storage.sqlite import SqliteFleetStore


@pytest.fixture
def store(tmp_path):
    made = SqliteFleetStore(str(tmp_path / "fleet.db"))
    yield made
    made.close()
