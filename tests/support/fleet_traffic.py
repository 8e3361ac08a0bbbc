"""Simulated devices that publish to a real broker, and a worker of the fleet beside it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections import defaultdict

from agent.core.control.ulid import Ulids
from agent.core.errors import LinkError
from agent.fleet.consumer import now_ms
from agent.fleet.mqtt import Broker, Session, connect
from agent.wire import messages as wire


class Devices:
    """Publishes events of several devices; what the broker acknowledged is in the ledger.

    A device that loses the connection sends again what was not acknowledged, with the same id.
    """

    def __init__(self, port, count=10):
        self.port, self.count = port, count
        self.ledger = []  # (device, id) that the broker acknowledged
        self._ulids, self._numbers = Ulids(), defaultdict(int)
        self._connection = None

    def event(self, device):
        self._numbers[device] += 1
        return wire.Event(
            id=self._ulids.next(now_ms()), dev=device, ts="2026-11-28T12:00:00.000Z", mono_ms=1,
            boot="b", sess=1, seq=self._numbers[device], clock_ok=True, kind="simulated",
            severity="info", facts={"number": self._numbers[device]},
        )  # fmt: skip

    def run(self, traffic):
        """Run a coroutine that publishes, then disconnect."""

        async def closing():
            try:
                await traffic
            finally:
                if self._connection is not None:
                    self._connection.disconnect()
                    await asyncio.wait([self._connection.closed])
                    self._connection = None

        asyncio.run(closing())

    async def publish(self, number, window=20):
        """Publish a number of events, some at a time."""
        for start in range(0, number, window):
            events = [
                self.event(f"cam-{one % self.count}")
                for one in range(start, min(start + window, number))
            ]
            await asyncio.gather(*map(self._delivered, events))

    async def send(self, topic, payload):
        """Publish any bytes."""
        return await (await self._connected()).publish(topic, payload)

    async def _delivered(self, event):
        payload = wire.encode(event)
        while True:
            try:
                connection = await self._connected()
                reason = await connection.publish(f"quantd/v1/{event.dev}/event", payload)
            except LinkError:
                await asyncio.sleep(0.1)
                continue
            assert reason in (0, 0x10), reason
            self.ledger.append((event.dev, event.id))
            return

    async def _connected(self):
        while self._connection is None or self._connection.closed.done():
            broker = Broker(host="127.0.0.1", port=self.port)
            session = Session(client_id="devices", clean=True, expiry_s=0)
            try:
                self._connection = await connect(broker, session, lambda _: None)
            except LinkError:
                await asyncio.sleep(0.1)
        return self._connection


class WorkerProcess:
    """`quantd fleet worker`, as systemd would start it again and again."""

    def __init__(self, port, database, name, folder):
        self._command = [
            *(sys.executable, "-m", "agent", "fleet", "worker", "--name", name),
            *("--database", database, "--broker", f"127.0.0.1:{port}"),
        ]
        self.log = folder / f"{name}.log"
        self._process = None

    @property
    def pid(self):
        return self._process.pid

    def start(self):
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        return self

    def kill(self):
        self._end(signal.SIGKILL)

    def stop(self):
        return self._end(signal.SIGTERM)

    def wait(self, timeout_s=60):
        return self._process.wait(timeout_s)

    def connections(self):
        """Return how often it was connected to the broker."""
        return self.text().count("consumer_connected")

    def text(self):
        return self.log.read_text() if self.log.exists() else ""

    def _end(self, how):
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(how)
        return self._process.wait(60)
