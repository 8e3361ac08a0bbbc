"""The stores of the fleet, each new and empty."""

from __future__ import annotations

import psycopg
import pytest

from agent.fleet.storage.postgres import PostgresFleetStore
from agent.fleet.storage.sqlite import SqliteFleetStore
from tests.support.postgres import Postgres


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    with Postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def address(postgres):
    """The address of an empty database."""
    with psycopg.connect(postgres.address, autocommit=True) as db:
        db.execute("DROP SCHEMA public CASCADE")
        db.execute("CREATE SCHEMA public")
    return postgres.address


@pytest.fixture(params=["sqlite", "postgres"])
def store(request, tmp_path):
    if request.param == "sqlite":
        made = SqliteFleetStore(str(tmp_path / "fleet.db"))
    else:
        made = PostgresFleetStore(request.getfixturevalue("address"))
    yield made
    made.close()
