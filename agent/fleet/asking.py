"""Numbers that did not come are asked for again, where an operator gave the fleet a key for it.

A device has them as long as it keeps the message. What it does not answer is asked for again, a few
times; the hole is shown in any case.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.core.errors import LinkError, QuantdError
from agent.core.fleet.devices import Hole
from agent.fleet.mqtt import Broker, Session, connect
from agent.ports.fleet import FleetStore
from agent.wire.issuing import SignedCommand

_LOG = logging.getLogger(__name__)
LATE_MS = 120_000  # messages of one device may come by several workers, one later than another
AGAIN_MS = 3_600_000
TIMES = 3
VALID_S = 3600
_EVERY_S = 60.0
_HOLES = 100  # in one round, so that many devices don't resend at once

Sign = Callable[[str, Mapping[str, Any]], SignedCommand]
"""Signs `resend` for a device, from its arguments; valid for `VALID_S`."""


@dataclass
class Asking:
    """Asks devices for missing numbers.

    Attributes:
        store: Knows what is missing.
        sign: With the operator's key.
    """

    store: FleetStore
    sign: Sign
    _asked: dict[Hole, tuple[int, int]] = field(default_factory=dict)

    def due(self, now_ms: int) -> list[SignedCommand]:
        """Return the commands of a round; a hole is asked for at most three times, an hour apart."""
        holes = self.store.holes(now_ms - LATE_MS, limit=_HOLES)
        self._asked = {hole: self._asked[hole] for hole in holes if hole in self._asked}
        found = []
        for hole in holes:
            times, last_ms = self._asked.get(hole, (0, 0))
            if times < TIMES and last_ms <= now_ms - AGAIN_MS:
                self._asked[hole] = (times + 1, now_ms)
                args = {"stream": hole.stream, "from_seq": hole.first, "to_seq": hole.last}
                found.append(self.sign(hole.device, args))
        return found

    async def run(self, broker: Broker, root: str, now_ms: Callable[[], int]) -> None:
        """Ask each minute, until canceled."""
        while True:
            try:
                commands = await asyncio.to_thread(self.due, now_ms())
                if commands:
                    await _publish(broker, root, commands)
                    _LOG.info("missing_messages_asked_for commands=%d", len(commands))
            except QuantdError as error:
                _LOG.warning("missing_messages_not_asked_for: %s", error)
            await asyncio.sleep(_EVERY_S)


async def _publish(broker: Broker, root: str, commands: Sequence[SignedCommand]) -> None:
    session = Session(
        client_id=f"quantd-fleet-{root.replace('/', '-')}-ask", clean=True, expiry_s=0
    )
    connection = await connect(broker, session, lambda _: None)
    try:
        for one in commands:
            topic = f"{root}/v1/{one.device}/cmd/{one.id}"
            reason = await connection.publish(topic, one.token, expiry_s=VALID_S)
            if reason >= 0x80:
                raise LinkError(
                    f"the broker refuses {topic} (reason {reason:#x})",
                    hint="allow this user to publish on the topics of commands",
                )
    finally:
        connection.disconnect()
