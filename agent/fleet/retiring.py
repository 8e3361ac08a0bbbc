"""The end of a worker: what its session has still to deliver is stored, then the session ends."""

from __future__ import annotations

import asyncio
import time

from agent.core.errors import LinkError
from agent.fleet.consumer import GROUP, Feed, Ingest, filters, session_of
from agent.fleet.mqtt import Broker, Session, connect

_QUIET_S = 2.0


async def retire(broker: Broker, root: str, name: str, ingest: Ingest) -> int:
    """Retire a worker; return how many messages its session had still to deliver.

    The broker gives it no further messages first, so that none is lost when its session ends: it
    deals messages to every session of the group, connected or not, and forgets those of an ended one.

    Raises:
        LinkError: "unknown_session" if the broker has none of that name; if the broker is away or
            fails, so that the worker must be retired again.
    """
    ingest.store.retire_worker(name, retired=True)  # a process that still runs ends by itself
    session = session_of(root, name)
    feed = Feed(ingest)
    connection = await connect(broker, session, feed.take)
    tasks = [
        asyncio.create_task(feed.drain(connection)),
        asyncio.create_task(connection.keep_alive(session.keepalive_s)),
    ]
    try:
        if not connection.session_present:
            raise LinkError(
                f"the broker has no session of a worker {name}",
                code="unknown_session",
                hint="`quantd fleet workers` lists the workers",
            )
        await connection.unsubscribe(filters(root, GROUP))
        feed.last_s = time.monotonic()
        while not feed.empty or time.monotonic() - feed.last_s < _QUIET_S:
            await asyncio.wait([connection.closed], timeout=_QUIET_S / 10)
            if connection.closed.done():
                connection.closed.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        connection.disconnect()
    last = await connect(
        broker, Session(client_id=session.client_id, clean=True, expiry_s=0), feed.take
    )
    last.disconnect()
    return ingest.counted.stored
