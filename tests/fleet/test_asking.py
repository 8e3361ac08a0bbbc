"""Missing numbers are asked for again."""

from __future__ import annotations

import asyncio

import pytest

from agent.cli import main
from agent.fleet.asking import AGAIN_MS, LATE_MS, TIMES, Asking
from agent.fleet.storage.sqlite import SqliteFleetStore
from agent.wire.issuing import SignedCommand
from tests.support.fleet_messages import event, received, report


@pytest.fixture
def store(tmp_path):
    made = SqliteFleetStore(str(tmp_path / "fleet.db"))
    yield made
    made.close()


def _asking(store):
    asked = []

    def sign(device, args):
        asked.append((device, dict(args)))
        return SignedCommand(device=device, id="r", type="resend", exp_s=0, token=b"")

    return Asking(store, sign), asked


def _now_ms(store):
    return store.holes(2**53)[0].noticed_ms


def test_each_hole_is_asked_for_with_its_stream_and_ends(store):
    store.write([received(event(), seq=3), received(event(), seq=6), received(report(), seq=1)], [])
    asking, asked = _asking(store)
    now_ms = _now_ms(store)
    assert asking.due(now_ms + LATE_MS) == []  # another worker may have it
    assert len(asking.due(now_ms + LATE_MS + 1)) == 1
    assert asked == [("cam-1", {"stream": "event", "from_seq": 4, "to_seq": 5})]


def test_a_hole_is_asked_for_three_times_an_hour_apart(store):
    store.write([received(event(), seq=3), received(event(), seq=6)], [])
    asking, asked = _asking(store)
    begin_ms = _now_ms(store) + LATE_MS + 1
    for minute in range(600):
        asking.due(begin_ms + minute * 60_000)
    assert len(asked) == TIMES
    assert AGAIN_MS == 60 * 60_000


def test_a_hole_that_was_filled_is_not_asked_for(store):
    store.write([received(event(), seq=3), received(event(), seq=5)], [])
    asking, asked = _asking(store)
    begin_ms = _now_ms(store) + LATE_MS + 1
    store.write([received(event(), seq=4)], [])
    asking.due(begin_ms)
    assert asked == []


def test_a_broker_that_is_away_does_not_end_the_asking(store):
    store.write([received(event(), seq=3), received(event(), seq=6)], [])
    asking, asked = _asking(store)

    async def asked_once():
        from agent.fleet.mqtt import Broker

        running = asyncio.create_task(
            asking.run(Broker(host="127.0.0.1", port=1), "quantd", lambda: 2**52)
        )
        while not asked:
            await asyncio.sleep(0.01)
        done, _ = await asyncio.wait([running], timeout=0.2)
        running.cancel()
        return done

    assert asyncio.run(asked_once()) == set()


def test_a_key_that_can_not_be_used_is_an_error_before_anything_starts(tmp_path, capsys):
    database = str(tmp_path / "fleet.db")
    missing = str(tmp_path / "none.key")
    code = main(["fleet", "console", "--database", database, "--resend-key", missing])
    assert code == 2
    assert "none.key" in capsys.readouterr().err
