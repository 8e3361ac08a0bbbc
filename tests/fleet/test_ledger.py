"""Nothing that the broker acknowledged is lost or doubled, whatever is killed; real parts."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from agent.fleet.consumer import now_ms
from agent.fleet.service import Settings, open_store, retired
from tests.support.broker import Mosquitto
from tests.support.fleet_traffic import Devices, WorkerProcess
from tests.support.polling import until
from tests.support.postgres import Postgres

pytestmark = pytest.mark.slow
_NAMES = [f"cam-{number}" for number in range(10)]


@pytest.fixture
def broker(tmp_path):
    with Mosquitto(tmp_path, "max_queued_messages 100000") as made:
        yield made


@pytest.fixture
def opened():
    """Open stores, and close them."""
    with contextlib.ExitStack() as stack:
        yield lambda database: stack.enter_context(contextlib.closing(open_store(database)))


@pytest.fixture
def postgres(tmp_path):
    with Postgres(tmp_path, durable=True) as server:
        yield server


@pytest.fixture
def started(broker, tmp_path):
    """Start workers that consume; end those that the test left."""
    workers = []

    def start(database, *names):
        made = [WorkerProcess(broker.port, database, name, tmp_path).start() for name in names]
        workers.extend(made)
        for one in made:
            until(one.connections, why=one.text)
        return made

    yield start
    for one in workers:
        one.kill()


def _stored(store):
    return [(one.device, one.id) for one in store.events(limit=1_000_000)]


def _check(store, ledger):
    """Wait until all that was acknowledged is stored; then each of it is stored once."""
    until(lambda: len(_stored(store)) >= len(set(ledger)))
    assert sorted(_stored(store)) == sorted(ledger)
    assert {one.missing for one in store.named(_NAMES, now_ms())} == {0}


def test_a_worker_is_killed_and_started_again(broker, started, opened, tmp_path):
    database = str(tmp_path / "fleet.db")
    workers = started(database, "w1", "w2")
    devices = Devices(broker.port)

    async def traffic():
        for _ in range(3):
            await devices.publish(300)
            await asyncio.to_thread(workers[0].kill)
            await devices.publish(100)
            workers[0].start()
        await devices.publish(100)

    devices.run(traffic())
    _check(opened(database), devices.ledger)
    for one in workers:
        assert one.stop() == 0


def test_the_database_and_a_worker_are_killed_and_started_again(broker, postgres, started, opened):
    workers = started(postgres.address, "w1", "w2")
    devices = Devices(broker.port)

    async def traffic():
        await devices.publish(300)
        await asyncio.to_thread(postgres.kill)
        await devices.publish(300)
        await asyncio.to_thread(workers[1].kill)
        await asyncio.to_thread(postgres.start)
        await devices.publish(300)
        workers[1].start()

    devices.run(traffic())
    _check(opened(postgres.address), devices.ledger)
    for one in workers:
        assert one.stop() == 0


def test_a_retired_worker_leaves_nothing_behind(broker, started, opened, tmp_path):
    database = str(tmp_path / "fleet.db")
    workers = started(database, "w1", "w2")
    devices = Devices(broker.port)
    store = opened(database)
    settings = Settings(broker=f"127.0.0.1:{broker.port}", database=database)
    workers[0].stop()  # its session goes on to get its share
    devices.run(devices.publish(200))
    stored = asyncio.run(retired(settings, "w1"))
    assert 0 < stored < 200
    _check(store, devices.ledger)
    devices.run(devices.publish(100))
    _check(opened(database), devices.ledger)
    assert asyncio.run(retired(settings, "w2")) == 0  # while it runs
    assert workers[1].wait() == 0
    assert "worker_retired" in workers[1].log.read_text()


def test_what_a_killed_broker_lost_is_noticed(broker, started, opened, tmp_path):
    database = str(tmp_path / "fleet.db")
    (worker,) = started(database, "w1")
    store = opened(database)
    devices = Devices(broker.port)
    devices.run(devices.publish(10))
    _check(store, devices.ledger)
    worker.stop()
    devices.run(devices.publish(50))  # acknowledged, and in the broker's memory alone
    broker.kill()
    broker.start()
    worker.start()
    until(lambda: worker.connections() == 2, timeout_s=60)
    devices.run(devices.publish(10))
    until(lambda: len(_stored(store)) >= 20, timeout_s=60)
    lost = len(devices.ledger) - len(_stored(store))
    assert lost == 50
    assert sum(one.missing for one in store.named(_NAMES, now_ms())) == lost
    assert {hole.stream for hole in store.holes(2**53)} == {"event"}
    worker.stop()


def test_a_hostile_device_stops_no_other(broker, started, opened, tmp_path):
    database = str(tmp_path / "fleet.db")
    (worker,) = started(database, "w1")
    store = opened(database)
    devices = Devices(broker.port)
    hostile = [
        b'{"facts": "\\u0000"}',
        b"[" * 60_000,
        b"\xff" * 10,
        b"{" + b'"a": 1e999, ' * 100 + b"}",
        b'{"m": {' + b",".join(b'"m%d": 1' % n for n in range(8000)) + b"}}",
        b"x" * 300_000,
        b"",
    ]

    async def traffic():
        for payload in hostile:
            await devices.send("quantd/v1/evil/event", payload)
            await devices.send("quantd/v1/evil/telemetry", payload)
            await devices.publish(20)

    devices.run(traffic())
    _check(opened(database), devices.ledger)
    found = store.quarantine(limit=100)
    assert len(found) == 2 * len(hostile)
    assert {one.topic.split("/")[2] for one in found} == {"evil"}
    assert {one.quarantined for one in store.named(_NAMES, now_ms())} == {0}
    worker.stop()
