"""The processes of `quantd fleet`: what they are made of, from their start to SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from agent.core.errors import ConfigError
from agent.fleet.consumer import Consumer, Ingest
from agent.fleet.intake import Intake
from agent.fleet.mqtt import Broker
from agent.fleet.retiring import retire
from agent.packages import pip_install
from agent.ports.fleet import FleetStore

_TLS_PORT = 8883
_PORT = 1883


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Broker and database of a fleet.

    Attributes:
        broker: host or host:port; 8883 is with TLS, as is any port with a file of it.
        database: Path of a SQLite file, or postgresql://...
    """

    broker: str = "127.0.0.1"
    root: str = "quantd"
    database: str = "fleet.db"
    ca: str = ""
    cert: str = ""
    key: str = ""
    username: str = ""
    password_file: str = ""


def open_store(database: str) -> FleetStore:
    """Open the store that a database's name stands for.

    Raises:
        StoreError: if it can't be opened.
        ConfigError: if the library for PostgreSQL is not installed.
    """
    if database.startswith(("postgresql://", "postgres://")):
        try:
            from agent.fleet.storage.postgres import PostgresFleetStore
        except ImportError as error:
            hint = f"install it: {pip_install('psycopg[binary]')}"
            raise ConfigError(f"--database {error}", hint=hint) from error
        return PostgresFleetStore(database)
    from agent.fleet.storage.sqlite import SqliteFleetStore

    return SqliteFleetStore(database)


def broker(settings: Settings) -> Broker:
    """Return the broker of the settings, with its TLS context and password read.

    Raises:
        ConfigError: if a file or the port can't be used.
    """
    host, _, port = settings.broker.rpartition(":")
    if not host or port.endswith("]"):
        host, port = settings.broker, ""
    files = settings.ca or settings.cert or settings.key
    number = _port(port) if port else (_TLS_PORT if files else _PORT)
    password = ""
    try:
        if settings.password_file:
            password = Path(settings.password_file).read_text(encoding="utf-8").strip("\r\n")
        tls = _tls_context(settings) if files or number == _TLS_PORT else None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the broker's files: {error}", hint="PEM files that this user can read"
        ) from error
    return Broker(
        host=host.strip("[]"),
        port=number,
        username=settings.username,
        password=password,
        tls=tls,
    )


@contextlib.asynccontextmanager
async def consuming(settings: Settings, store: FleetStore, name: str) -> AsyncIterator[Ingest]:
    """Consume in the background, until the block ends.

    Args:
        settings: Of the broker.
        store: The database.
        name: Of the worker; "" for the only consumer.

    Yields:
        What it stored; `stopping` is set when it ends by itself, because it was retired.
    """
    ingest = Ingest(store, Intake(settings.root))
    consumer = Consumer(broker(settings), settings.root, ingest, name)
    tasks = [
        asyncio.create_task(ingest.tidy()),
        asyncio.create_task(ingest.report(name or "fleet")),
        asyncio.create_task(_until_end(consumer)),
    ]
    try:
        yield ingest
    finally:
        ingest.stopping.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        ingest.close()


async def work(settings: Settings, name: str) -> None:
    """Consume until SIGTERM or SIGINT, or until the worker is retired."""
    store = open_store(settings.database)
    try:
        if name:
            store.retire_worker(name, retired=False)
        async with consuming(settings, store, name) as ingest:
            loop = asyncio.get_running_loop()
            for one in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(one, ingest.stopping.set)
            await ingest.stopping.wait()
    finally:
        store.close()


async def retired(settings: Settings, name: str) -> int:
    """Retire a worker; return how many messages of its session were stored. See `retiring`."""
    store = open_store(settings.database)
    ingest = Ingest(store, Intake(settings.root))
    try:
        return await retire(broker(settings), settings.root, name, ingest)
    finally:
        ingest.stopping.set()
        ingest.close()
        store.close()


async def _until_end(consumer: Consumer) -> None:
    try:
        await consumer.run()
    finally:
        consumer.ingest.stopping.set()


def _port(text: str) -> int:
    if text.isdecimal() and 0 < int(text) < 65_536:
        return int(text)
    raise ConfigError(f"--broker: {text[:40]!r} is no port", hint="host or host:port, 1 to 65535")


def _tls_context(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.cert:
        context.load_cert_chain(settings.cert, settings.key or None, password="")
    return context
