"""Publishes the commands that the console keeps: a loop over what waits, which a crash resumes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent.core.errors import LinkError, StoreError
from agent.fleet.mqtt import Broker, Connection, Session, connect

_LOG = logging.getLogger(__name__)
_AT_A_TIME = 200  # waiting for the broker's acknowledgement
_IDLE_S = 60.0
_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 60.0
_FAILURE = 0x80
Waiting = tuple[str, str, bytes, float]


class Kept(Protocol):
    """Commands to be published; each method may raise StoreError."""

    def waiting(self, limit: int = 500) -> list[Waiting]:
        """Return command, device, token and expiry (s since 1970) of what is next."""

    def mark(self, outcomes: Sequence[tuple[str, str, str]]) -> None:
        """Store what became of publishing: command, device, and "sent" or why not."""


@dataclass
class Sender:
    """Connects while something waits; a message expires at the broker when its command does.

    Attributes:
        root: First levels of the topics.
    """

    broker: Broker
    root: str
    kept: Kept
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _loop: asyncio.AbstractEventLoop | None = None

    def wake(self) -> None:
        """Look for what waits, now; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Publish what waits, for ever."""
        self._loop = asyncio.get_running_loop()
        delay_s = _FIRST_DELAY_S
        while True:
            try:
                self._wake.clear()
                await self._publish_all()
                delay_s = _FIRST_DELAY_S
                await self._pause(_IDLE_S)
            except (LinkError, StoreError) as error:
                _LOG.warning("commands_wait retry_s=%g: %s", delay_s, error)
                await self._pause(delay_s)
                delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    async def _publish_all(self) -> None:
        batch = await asyncio.to_thread(self.kept.waiting)
        if not batch:
            return
        session = Session(
            client_id=f"quantd-fleet-{self.root.replace('/', '-')}-sender", clean=True, expiry_s=0
        )
        connection = await connect(self.broker, session, lambda _: None)
        alive = asyncio.create_task(connection.keep_alive(session.keepalive_s))
        try:
            while batch:
                for first in range(0, len(batch), _AT_A_TIME):
                    part = batch[first : first + _AT_A_TIME]
                    states = await asyncio.gather(*(self._publish(connection, one) for one in part))
                    outcomes = [(one[0], one[1], s) for one, s in zip(part, states, strict=True)]
                    await asyncio.to_thread(self.kept.mark, outcomes)
                batch = await asyncio.to_thread(self.kept.waiting)
        finally:
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)
            connection.disconnect()

    async def _publish(self, connection: Connection, one: Waiting) -> str:
        """Publish one command; return "sent" or why it is not."""
        command, device, token, exp_s = one
        left_s = int(exp_s - time.time())
        if left_s <= 0:
            return "expired"
        topic = f"{self.root}/v1/{device}/cmd/{command}"
        reason = await connection.publish(topic, token, expiry_s=min(left_s, 2**32 - 1))
        return "sent" if reason < _FAILURE else f"the broker refused it (reason {reason:#x})"

    async def _pause(self, longest_s: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), longest_s)
        except asyncio.TimeoutError:
            return
