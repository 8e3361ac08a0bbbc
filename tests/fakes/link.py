"""A link in memory: connects, acknowledges and loses messages as a test requires."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.core.control.link import Acked


@dataclass
class FakeLink:
    """Sent messages wait in `unacked` until the test acknowledges or loses them."""

    session: int = 0
    online: bool = False
    delivered: list[bytes] = field(default_factory=list)
    unacked: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    acknowledged: list[int] = field(default_factory=list)
    said: list[tuple[str, bytes]] = field(default_factory=list)
    sent: int = 0

    def start(self) -> None: ...

    def connect(self) -> None:
        self.session += 1
        self.online = True
        self.unacked.clear()

    def lose(self) -> None:
        self.online = False

    def send(self, topic: str, body: bytes, *, qos: int, retain: bool, expiry_s: int) -> int | None:
        if not self.online:
            return None
        self.sent += 1
        number = self.session << 16 | self.sent
        self.unacked[number] = (topic, body)
        self.said.append((topic, body))
        return number

    def broker_takes(self, count: int) -> list[int]:
        """Make the broker receive the first messages; return their ids for the answers."""
        numbers = list(self.unacked)[:count]
        self.delivered += [self.unacked[number][1] for number in numbers]
        return numbers

    def answer(self, number: int, code: int = 0) -> Acked:
        del self.unacked[number]
        return Acked(number, code < 0x80, code)

    def acknowledge(self, message: int) -> None:
        self.acknowledged.append(message)

    def stop(self, topic: str, farewell: bytes) -> None:
        self.said.append((topic, farewell))
        self.online = False
