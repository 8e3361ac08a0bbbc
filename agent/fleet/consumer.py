"""From the broker into the store: every message is acknowledged once its transaction is committed.

A subscription of a group ($share) is no queue: the broker deals each message to one session of the
group, connected or not. So a worker has a fixed name, its session outlives it by days, and one that
is needed no longer is retired (see `retiring`), or its share waits for ever.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from agent.core.errors import LinkError, StoreError
from agent.core.fleet.devices import Worker
from agent.core.fleet.messages import STORED_ONCE, Quarantined, Received
from agent.fleet.intake import Intake, quarantined
from agent.fleet.mqtt import Broker, Connection, Delivery, Session, connect
from agent.ports.fleet import FleetStore

_LOG = logging.getLogger(__name__)
BATCH = 500
_FILL_S = 0.2  # small batches cost three times as much a message
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 30.0
_QUIET_S = 2.0  # without a message, all retained ones have come
_REPORT_S = 10.0
_MOST_BYTES = 8 * 1024 * 1024  # that wait to be stored; the rest waits in the socket
_TIDY_S = 3600.0
GROUP = "quantd"
_NEWEST = ("state", "meta", "releases")
_STREAMS = (*_NEWEST, "telemetry", "event", "report/+", "res/+")
Item = tuple[Delivery, Received | Quarantined]


@dataclass
class Counted:
    """What a worker did since it started."""

    stored: int = 0
    duplicates: int = 0
    quarantined: int = 0


def filters(root: str, group: str = "", streams: Sequence[str] = _STREAMS) -> list[str]:
    """Return what a consumer subscribes to, as a member of a group if it has a name."""
    before = f"$share/{group}/" if group else ""
    return [f"{before}{root}/v1/+/{one}" for one in streams]


@dataclass
class Ingest:
    """Stores messages in batches.

    Attributes:
        store: Where to.
        intake: Checks them.
        counted: What was done.
        stopping: Set to give up a batch that can't be stored.
    """

    store: FleetStore
    intake: Intake
    counted: Counted = field(default_factory=Counted)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="ingest")
    )

    async def take(self, batch: Sequence[Delivery]) -> bool:
        """Store a batch; wait while the store is away. False if stopped before it was stored."""
        run = asyncio.get_running_loop().run_in_executor
        delay_s = _FIRST_DELAY_S
        while not self.stopping.is_set():
            try:
                await run(self._thread, self.store_batch, batch)
            except StoreError as error:
                _LOG.error(
                    "batch_not_stored messages=%d retry_s=%g: %s", len(batch), delay_s, error
                )
                await _waited(self.stopping, delay_s)
                delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
            else:
                return True
        return False

    async def tidy(self) -> None:
        """Remove what is kept no longer, now and each hour, beside the batches."""
        while not self.stopping.is_set():
            try:
                await asyncio.to_thread(self.store.tidy, now_ms())
            except StoreError as error:
                _LOG.error("tidying_failed: %s", error)
            await _waited(self.stopping, _TIDY_S)

    async def report(self, name: str) -> None:
        """Report what this worker did, now and every 10 s."""
        run = asyncio.get_running_loop().run_in_executor
        started_ms = now_ms()
        while not self.stopping.is_set():
            worker = Worker(
                name=name,
                started_ms=started_ms,
                seen_ms=now_ms(),
                stored=self.counted.stored,
                duplicates=self.counted.duplicates,
                quarantined=self.counted.quarantined,
                retired=False,
            )
            try:
                await run(self._thread, self.store.report_worker, worker)
            except StoreError as error:
                _LOG.error("worker_not_reported: %s", error)
            await _waited(self.stopping, _REPORT_S)

    def close(self) -> None:
        """Wait until the batch in work is stored, or given up; call it once stopped."""
        self._thread.shutdown()

    def store_batch(self, batch: Sequence[Delivery]) -> None:
        """Check and store a batch, in one transaction; raises StoreError if none can be made."""
        came_ms = now_ms()
        take = self.intake.take
        self._write(
            [(one, take(one.topic, one.payload, came_ms, retained=one.retained)) for one in batch]
        )

    def _write(self, items: Sequence[Item]) -> None:
        """Store messages; halve them until one that the database refuses stands alone."""
        good = [found for _, found in items if isinstance(found, Received)]
        bad = [found for _, found in items if isinstance(found, Quarantined)]
        try:
            new = self.store.write(good, bad)
        except StoreError as error:
            if error.code != "refused":
                raise
            if len(items) > 1:
                self._write(items[: len(items) // 2])
                self._write(items[len(items) // 2 :])
            else:
                self._set_aside(items[0], error)
            return
        self.counted.stored += new
        self.counted.duplicates += sum(type(one.body) in STORED_ONCE for one in good) - new
        self.counted.quarantined += len(bad)

    def _set_aside(self, item: Item, error: StoreError) -> None:
        delivery, found = item
        if isinstance(found, Quarantined):
            _LOG.error("message_given_up topic=%r: %s", found.topic, error)
            return
        why = f"the database refuses it: {error.message}"
        bad = quarantined(found.device, delivery.topic, delivery.payload, why, found.received_ms)
        self._write([(delivery, bad)])


@dataclass
class Feed:
    """The messages of one connection, until they are stored and acknowledged.

    Attributes:
        last_s: When the last one came, on the monotonic clock.
    """

    ingest: Ingest
    last_s: float = field(default_factory=time.monotonic)
    _connection: Connection | None = None
    _bytes: int = 0
    _waiting: list[Delivery] = field(default_factory=list)
    _first: asyncio.Event = field(default_factory=asyncio.Event)
    _full: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def empty(self) -> bool:
        """Return whether nothing waits."""
        return not self._waiting

    def take(self, delivery: Delivery) -> None:
        """Take a message, as the connection's thread does."""
        self._waiting.append(delivery)
        self._bytes += len(delivery.payload)
        if self._bytes > _MOST_BYTES and self._connection is not None:
            self._connection.pause_reading(pause=True)
        if len(self._waiting) == 1:
            self._first.set()
            self.last_s = time.monotonic()
        elif len(self._waiting) >= BATCH:
            self._full.set()

    async def drain(self, connection: Connection) -> None:
        """Store and acknowledge until the connection ends or the ingest is stopped."""
        self._connection = connection
        while not connection.closed.done():
            await self._first.wait()
            await _waited(self._full, _FILL_S)
            batch = self._waiting[:BATCH]
            if not await self.ingest.take(batch):
                return
            connection.acknowledge([one.packet for one in batch if one.packet])
            del self._waiting[: len(batch)]
            self._bytes -= sum(len(one.payload) for one in batch)
            if self._bytes <= _MOST_BYTES:
                connection.pause_reading(pause=False)
            self.last_s = time.monotonic()
            if not self._waiting:
                self._first.clear()
            if len(self._waiting) < BATCH:
                self._full.clear()


@dataclass
class Consumer:
    """One worker.

    Attributes:
        broker: Where the messages come from.
        root: First levels of the topics.
        name: Of its session; "" for the only consumer of a fleet.
    """

    broker: Broker
    root: str
    ingest: Ingest
    name: str = ""

    @property
    def session(self) -> Session:
        """Return the session that the broker keeps for it."""
        return session_of(self.root, self.name)

    async def run(self) -> None:
        """Consume until stopped, or until the worker is retired."""
        delay_s = _FIRST_DELAY_S
        first = True
        while not self.ingest.stopping.is_set():
            begun_s = time.monotonic()
            try:
                if await self._retired(again=not first):
                    _LOG.warning("worker_retired name=%s", self.name)
                    return
                await self._serve(first=first)
            except (LinkError, StoreError) as error:
                _LOG.warning("connection_lost retry_s=%g: %s", delay_s, error)
            first = False
            if time.monotonic() - begun_s > _LONGEST_DELAY_S:
                delay_s = _FIRST_DELAY_S
            await _waited(self.ingest.stopping, delay_s)
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    async def _serve(self, *, first: bool) -> None:
        feed = Feed(self.ingest)
        connection = await connect(self.broker, self.session, feed.take)
        stopped = asyncio.create_task(self.ingest.stopping.wait())
        tasks: list[asyncio.Task[Any]] = [
            stopped,
            asyncio.create_task(feed.drain(connection)),
            asyncio.create_task(connection.keep_alive(self.session.keepalive_s)),
        ]
        try:
            await connection.subscribe(filters(self.root, GROUP if self.name else ""))
            _LOG.info("consumer_connected session_present=%s", connection.session_present)
            if first:
                tasks.append(asyncio.create_task(read_retained(self)))
            ends: list[asyncio.Future[Any]] = [connection.closed, stopped]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if connection.closed.done():
                connection.closed.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            connection.disconnect()

    async def _retired(self, *, again: bool) -> bool:
        if not (again and self.name):
            return False
        workers = await asyncio.to_thread(self.ingest.store.workers)
        return any(one.name == self.name and one.retired for one in workers)


def session_of(root: str, name: str) -> Session:
    """Return the session of a worker."""
    base = f"quantd-fleet-{root.replace('/', '-')}"
    return Session(client_id=f"{base}-{name}" if name else base)


async def read_retained(consumer: Consumer) -> None:
    """Read once what the broker keeps of each device; reports only into an empty store.

    By a session of its own: the consumer's subscription leaves retained messages out, for a broker
    may send all of them to every worker that starts.
    """
    ingest = consumer.ingest
    streams = list(_NEWEST)
    try:
        if not await asyncio.to_thread(ingest.store.models):
            streams.append("report/+")
        feed = Feed(ingest)
        name = f"{consumer.session.client_id}-retained"
        session = Session(client_id=name, clean=True, expiry_s=0)
        connection = await connect(consumer.broker, session, feed.take)
        draining = asyncio.create_task(feed.drain(connection))
        try:
            await connection.subscribe(filters(consumer.root, streams=streams), retained=True)
            while not connection.closed.done() and (
                not feed.empty or time.monotonic() - feed.last_s < _QUIET_S
            ):
                await asyncio.wait([connection.closed], timeout=_QUIET_S / 4)
        finally:
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)
            connection.disconnect()
    except (LinkError, StoreError) as error:
        _LOG.warning("retained_messages_not_read: %s", error)


def now_ms() -> int:
    """Return the time, ms since 1970."""
    return time.time_ns() // 1_000_000


async def _waited(event: asyncio.Event, longest_s: float) -> None:
    """Wait for an event, or for some time."""
    try:
        await asyncio.wait_for(event.wait(), longest_s)
    except asyncio.TimeoutError:
        return
