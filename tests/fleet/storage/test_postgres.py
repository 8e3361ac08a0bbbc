"""What is PostgreSQL's alone."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from agent.core.errors import StoreError
from agent.fleet.storage.postgres import PostgresFleetStore
from tests.support.fleet_messages import event, message_id, received, state, telemetry


@pytest.fixture
def stores(address):
    made = [PostgresFleetStore(address) for _ in range(2)]
    yield made
    for one in made:
        one.close()


def test_a_lost_connection_is_made_again(stores, address):
    store = stores[0]
    store.write([received(state())], [])
    with psycopg.connect(address, autocommit=True) as db:
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    with pytest.raises(StoreError) as caught:
        store.write([received(event())], [])
    assert caught.value.code == "away"
    assert store.write([received(event())], []) == 1
    assert [one.name for one in store.named(["cam-1"], 0)] == ["cam-1"]


def test_two_workers_with_the_same_devices_wait_for_each_other_and_lose_nothing(stores):
    failed = []
    batches = [
        [
            received(made(), f"cam-{n}", seq=seq)
            for n in (range(20) if seq % 2 else range(19, -1, -1))
            for made in (event, state, telemetry)
        ]
        for seq in range(1, 31)
    ]

    def write(store, turn):
        try:
            for messages in batches[turn::2]:
                store.write(messages, [])
        except StoreError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(one, n)) for n, one in enumerate(stores)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failed == []
    assert len(stores[0].events(limit=1000)) == 2 * 15 * 20
    assert {one.missing for one in stores[0].named([f"cam-{n}" for n in range(20)], 0)} == {0}


def test_the_same_message_at_two_workers_is_stored_once(stores):
    same = received(event(), same_id=message_id())
    assert [one.write([same], []) for one in stores] == [1, 0]


def test_partitions_of_the_next_days_are_there_and_old_ones_are_dropped(stores, address):
    store = stores[0]
    store.write([received(telemetry())], [])

    def partitions(table):
        with psycopg.connect(address) as db:
            sql = "SELECT COUNT(*) FROM pg_inherits WHERE inhparent = %s::regclass"
            return db.execute(sql, (table,)).fetchone()[0]

    assert (partitions("telemetry"), partitions("event")) == (6, 6)
    store.tidy(time.time_ns() // 1_000_000 + 60 * 86_400_000)
    assert partitions("telemetry") == 0
    assert partitions("event") == 6


def test_an_address_without_a_server_is_named_without_its_password():
    with pytest.raises(StoreError) as caught:
        PostgresFleetStore("postgresql://me:secret@127.0.0.1:1/fleet")
    assert caught.value.code == "away"
    assert "secret" not in str(caught.value)
    assert "postgresql://127.0.0.1:1/fleet" in str(caught.value)


def test_tables_of_a_newer_version_are_left_alone(address):
    PostgresFleetStore(address).close()
    with psycopg.connect(address, autocommit=True) as db:
        db.execute("INSERT INTO schema_version VALUES (99)")
    with pytest.raises(StoreError, match="has format 99"):
        PostgresFleetStore(address)
