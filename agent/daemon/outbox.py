"""Sends what waits in the journal: in order, a few at a time, gone only once the broker has it.

Owned by the main thread. Delivery is at least once: what was in flight when a connection was
lost is sent again, so a consumer drops doubles by the message's id. A message that the broker
will never take is parked and announced, so that it blocks nothing behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.core.control.journal import Row
from agent.core.control.link import Acked, Connected, Disconnected
from agent.ports import Clock, Journal, Link

IN_FLIGHT = 20  # mosquitto's own default; also bounds the doubles after a loss
_OVERHEAD_BYTES = 32  # fixed header, packet id and properties of a PUBLISH
_HOLD_NS = 30_000_000_000
# Losses of the link with the same message first in line and nothing acknowledged in between,
# after which that message is the cause: if the broker gave that reason, and if it gave none.
_LOSSES = 3
_SILENT_LOSSES = 10
_TRIES = 5
# Silence for this many of the slowest round trips seen lately, but not within the first limit;
# doubled after each silence, up to the second: a slow link may need minutes for one message.
_SILENCE_ROUND_TRIPS = 10
_SILENCE_S = (20.0, 300.0)
_FADE = 0.95  # per acknowledgement, of the slowest round trip seen

# MQTT 5.0, table 2-6. For ever: not authorized, topic name invalid, packet too large, payload
# format invalid. Choked: also malformed packet and protocol error, by which brokers mean "too large".
_NEVER = {0x87: "denied", 0x90: "bad_topic", 0x95: "too_large", 0x99: "bad_format"}
_CHOKED = {0x81, 0x82, 0x95, 0x99}
_NO_SUBSCRIBER = 0x10  # a success: the broker took it, but has no subscriber for it

Announce = Callable[[str, Mapping[str, object]], None]
"""Called as announce(kind, facts) for every message that is parked or given up."""


@dataclass
class Outbox:
    """The sender.

    Attributes:
        journal: Holds the messages.
        link: Takes them.
        clock: For pauses after a refusal.
        announce: Called for what will not be delivered.
        unheard: Messages that the broker took although there was no subscriber.
    """

    journal: Journal
    link: Link
    clock: Clock
    announce: Announce
    unheard: int = 0
    _online: bool = False
    _session: int = 0
    _max_packet: int | None = None
    _window: int = IN_FLIGHT
    # message id of the link -> the row's key and when it was sent
    _in_flight: dict[int, tuple[int, int]] = field(default_factory=dict)
    _cursors: dict[bool, int] = field(default_factory=lambda: dict.fromkeys((True, False), 0))
    _done: list[int] = field(default_factory=list)
    _hold_until_ns: int = 0
    _tries: dict[int, int] = field(default_factory=dict)
    _suspect: tuple[int, int] = (0, 0)  # key first in line at a loss, losses so far
    _heard_ns: int = 0  # when a message was acknowledged, or the first one sent
    _slowest_s: float = 0.0  # round trip, fading
    _silences: int = 0  # without an acknowledgement in between
    _alone: int = 0  # how many messages to send one at a time, to see which one is the cause

    def connected(self, event: Connected) -> None:
        """Begin from the first message that is not yet delivered."""
        self._forget()
        self._online = True
        self._session = event.session
        self._max_packet = event.max_packet
        self._window = max(1, min(IN_FLIGHT, event.receive_maximum))

    def disconnected(self, event: Disconnected) -> None:
        """Stop sending; find out whether one message makes the broker drop the link."""
        was_online, self._online = self._online, False
        if event.cause == "broker_silent":  # the fault of no message
            self._silences += 1
        elif was_online and self._in_flight:
            first = min(key for key, _ in self._in_flight.values())
            losses = self._suspect[1] + 1 if self._suspect[0] == first else 1
            self._suspect = (first, losses)
            was_alone, self._alone = self._alone > 0, IN_FLIGHT if losses > 1 else self._alone
            enough = _LOSSES if event.code in _CHOKED else _SILENT_LOSSES
            if was_alone and losses >= enough:
                self._park(first, "drops_link")
        self._forget()

    @property
    def online(self) -> bool:
        """Return whether there is a connection to send on."""
        return self._online

    @property
    def silent(self) -> bool:
        """Return whether the broker keeps the link and acknowledges nothing.

        Nothing may be sent again on a link that holds (MQTT 5.0, 4.4), so a new one is needed.
        """
        least_s, most_s = _SILENCE_S
        limit_s = max(least_s, _SILENCE_ROUND_TRIPS * self._slowest_s) * 2**self._silences
        return self._online and bool(self._in_flight) and self.silence_s > min(most_s, limit_s)

    @property
    def silence_s(self) -> float:
        """Return for how long nothing has been acknowledged, s."""
        return (self.clock.monotonic_ns() - self._heard_ns) / 1e9

    def acked(self, event: Acked) -> None:
        """Note the broker's answer; `pump` acts on it."""
        found = self._in_flight.pop(event.message, None)
        if found is None:
            return  # of an earlier connection: the row is sent again
        key, sent_ns = found
        self._heard_ns, self._silences = self.clock.monotonic_ns(), 0
        self._slowest_s = max(_FADE * self._slowest_s, (self._heard_ns - sent_ns) / 1e9)
        if event.ok:
            self.unheard += event.code == _NO_SUBSCRIBER
            self._done.append(key)
            self._suspect = (0, 0)
            self._alone = max(0, self._alone - 1)
            self._tries.pop(key, None)
        elif event.code in _NEVER:
            self._park(key, _NEVER[event.code])
        else:  # quota exceeded and the like: not the message's fault, or not for sure
            self._tries[key] = self._tries.get(key, 0) + 1
            if self._tries[key] >= _TRIES:
                self._park(key, f"refused_0x{event.code:02x}")
            self._hold_until_ns = self.clock.monotonic_ns() + _HOLD_NS

    def pump(self) -> None:
        """Forget what was delivered, give up what is too much, send what may be sent."""
        self._settle()
        if not self._online or self._holding() or self.link.session != self._session:
            return  # a new connection has begun: its event is on the way
        window = 1 if self._alone else self._window
        for births in (True, False):  # state and meta do not wait behind a backlog
            while (room := window - len(self._in_flight)) > 0:
                rows = self.journal.pending(self._cursors[births], room, births=births)
                if not rows:
                    break
                if not all(self._send(row, births=births) for row in rows):
                    return  # the link is gone; its event is on the way

    def _send(self, row: Row, *, births: bool) -> bool:
        """Hand a message to the link, or park it; return False if there is no link."""
        message = row.message
        size = len(message.body) + len(message.topic) + _OVERHEAD_BYTES
        if self._max_packet is not None and size > self._max_packet:
            self._cursors[births] = row.key
            self._park(row.key, "too_large")
            return True
        left_s = max(1, int(message.expiry_s - row.age_s)) if message.expiry_s else 0
        sent = self.link.send(
            message.topic, message.body, qos=message.qos, retain=message.retain, expiry_s=left_s
        )
        if sent is None:
            return False
        self._cursors[births] = row.key
        if message.qos:
            now_ns = self.clock.monotonic_ns()
            if not self._in_flight:
                self._heard_ns = now_ns
            self._in_flight[sent] = row.key, now_ns
        else:
            self._done.append(row.key)
        return True

    def tidy(self) -> None:
        """Give up what has expired or is too much, and announce it; call it now and then."""
        for lost in self.journal.evict():
            self.announce(
                "outbox_evicted",
                {
                    "stream": lost.stream,
                    "class": lost.message_class,
                    "n": lost.count,
                    "seq_from": lost.first,
                    "seq_to": lost.last,
                },
            )

    def _settle(self) -> None:
        if self._done:
            self.journal.delivered(self._done)
            self._done = []

    def _holding(self) -> bool:
        """Return whether to wait after a refusal; then begin again from the first message."""
        if not self._hold_until_ns:
            return False
        if self._in_flight or self.clock.monotonic_ns() < self._hold_until_ns:
            return True
        self._hold_until_ns = 0
        self._cursors = dict.fromkeys(self._cursors, 0)
        return False

    def _park(self, key: int, reason: str) -> None:
        rows = self.journal.pending(key - 1, 1)
        self.journal.park(key, reason)
        self._tries.pop(key, None)
        self._suspect = (0, 0)
        self._alone = 0
        if not rows or rows[0].key != key:
            return  # replaced meanwhile by a newer message of its topic
        message = rows[0].message
        if message.stream != "event":  # else a denied event topic would announce itself for ever
            facts = {"topic": message.topic, "seq": message.number, "reason": reason}
            self.announce("message_parked", facts)

    def _forget(self) -> None:
        self._in_flight.clear()
        self._cursors = dict.fromkeys(self._cursors, 0)
        self._hold_until_ns = 0
