"""From hostile bytes to a message that any database can store, or to the reason why not.

The structs of `agent.wire` check texts, numbers and sizes of each field. What they can't: that device
and model are those of the topic, which the broker binds to the certificate, how deep and how large
a message is, and when it was made.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from agent.core.control.command import is_command_id
from agent.core.control.ulid import ulid_bytes, ulid_ms
from agent.core.fleet import messages
from agent.core.fleet.messages import Body, Quarantined, Received
from agent.core.fleet.reports import summary
from agent.wire import messages as wire

DAY_MS = 86_400_000
OLDEST_MS = 30 * DAY_MS
NEWEST_MS = DAY_MS
TELEMETRY_MS = 2 * DAY_MS  # what is older would be counted twice in the hours
LIMIT_BYTES = 64 * 1024
REPORT_LIMIT_BYTES = 256 * 1024
_DEPTH = 8
_REPORT_DEPTH = 16
_HEAD_BYTES = 4096
_TOPIC = 256  # characters
_TOPICS = 100_000  # that are remembered
_SETS = 1000  # of names of metrics that are remembered
_METRIC = re.compile(wire.METRIC_NAME)
_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Address(NamedTuple):
    """What a topic names: the device, the kind of message, and the model or the command."""

    device: str
    kind: str
    rest: str


class _Telemetry(msgspec.Struct, kw_only=True):
    """`wire.Telemetry` without what is checked otherwise or not stored, in half the time."""

    v: Literal[1, 2] = 2
    id: wire.Ulid
    dev: str
    ts: wire.Time
    sess: wire.Count
    seq: wire.Count
    clock_ok: bool
    m: Annotated[
        dict[str, wire.Whole | float | bool | None], msgspec.Meta(max_length=wire.ENTRIES_LIMIT)
    ]


class RefusedError(ValueError):
    """Why a message can't be stored."""


@dataclass
class Intake:
    """Checks messages; not for several threads at once.

    Attributes:
        root: The first levels of the topics.
    """

    root: str
    _addresses: dict[bytes, Address | None] = field(default_factory=dict)
    _metrics: set[tuple[str, ...]] = field(default_factory=set)

    def take(
        self, topic: bytes, payload: bytes, received_ms: int, *, retained: bool = False
    ) -> Received | Quarantined:
        """Return a message as it is stored, or why it can't be.

        Args:
            topic: Of the message.
            payload: Of the message.
            received_ms: When it came, ms since 1970.
            retained: Whether the broker kept it: then its device is heard no later than it was
                made.
        """
        address = self._address(topic)
        try:
            if address is None:
                raise RefusedError("the topic is none of a device")
            found = self._checked(address, payload, received_ms)
        except RefusedError as error:
            device = address.device if address else ""
            return quarantined(device, topic, payload, str(error), received_ms)
        if retained and found.at_ms < received_ms:
            return found._replace(received_ms=found.at_ms)
        return found

    def _checked(self, address: Address, payload: bytes, received_ms: int) -> Received:
        decoder, made = _KINDS[address.kind]
        limit = REPORT_LIMIT_BYTES if address.kind == "report" else LIMIT_BYTES
        if len(payload) > limit:
            raise RefusedError(f"{len(payload)} bytes, {limit} is the limit")
        if wire.has_nul(payload):
            raise RefusedError("a text contains NUL")
        try:
            message = decoder.decode(payload)
        except _ERRORS as error:
            raise RefusedError(_reason(error)) from None
        if message.dev != address.device:
            raise RefusedError(
                f"the message is of {message.dev[:64]}, its topic of {address.device}"
            )
        if address.kind == "telemetry":
            self._check_names(message.m)
        number = ulid_bytes(message.id)
        at_ms = _made_ms(address.kind, number, message, received_ms)
        will = 1 if address.kind == "state" and message.will else 0
        return Received(
            address.device,
            number,
            (message.sess, will, message.seq),
            at_ms,
            received_ms,
            made(message, address.rest),
        )

    def _check_names(self, figures: Mapping[str, Any]) -> None:
        """Check the names of metrics; devices send the same ones again and again."""
        names = tuple(figures)
        if names in self._metrics:
            return
        bad = next((one for one in names if not _METRIC.match(one)), None)
        if bad is not None:
            raise RefusedError(f"metric {bad!r}: lower case letters, digits and _ only")
        if len(self._metrics) < _SETS:
            self._metrics.add(names)

    def _address(self, topic: bytes) -> Address | None:
        try:
            return self._addresses[topic]
        except KeyError:
            found = _parsed(topic, self.root)
        if len(self._addresses) >= _TOPICS:
            self._addresses.clear()
        self._addresses[topic] = found
        return found


def quarantined(
    device: str, topic: bytes, payload: bytes, why: str, received_ms: int
) -> Quarantined:
    """Return a message that can't be stored, with what a person needs to find its cause."""
    shown = topic[: 4 * _TOPIC].decode(errors="replace").replace("\0", "\ufffd")[:_TOPIC]
    return Quarantined(
        device=device,
        topic=shown,
        sha256=hashlib.sha256(payload).hexdigest(),
        head=payload[:_HEAD_BYTES],
        size=len(payload),
        why=why.replace("\0", "\ufffd")[:300],
        received_ms=received_ms,
    )


def _parsed(topic: bytes, root: str) -> Address | None:
    try:
        text = topic.decode()
    except UnicodeDecodeError:
        return None
    before, start = f"{root}/v1/", len(root) + 4
    device, _, rest = text[start:].partition("/")
    kind, slash, rest = rest.partition("/")
    named = kind in {"report", "res"}
    if not text.startswith(before) or kind not in _KINDS or named != bool(slash):
        return None
    if not is_command_id(device) or (named and not is_command_id(rest)):
        return None
    return Address(device, kind, rest)


def _made_ms(
    kind: str, number: bytes, message: wire.Envelope | _Telemetry, received_ms: int
) -> int:
    """Return when a message was made; check it where rows are found and removed by it."""
    at_ms = ulid_ms(number)
    oldest_ms = TELEMETRY_MS if kind == "telemetry" else OLDEST_MS
    if received_ms - oldest_ms <= at_ms <= received_ms + NEWEST_MS:
        return at_ms if message.clock_ok else received_ms
    if kind in {"state", "meta", "releases"}:  # the newest is kept, by session and number
        return received_ms
    hours = (at_ms - received_ms) / 3_600_000
    clock = "" if message.clock_ok else ", by a clock that is not synchronized"
    raise RefusedError(f"made {abs(hours):.0f} h {'from now' if hours > 0 else 'ago'}{clock}")


def _reason(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)


def _flat(value: object, levels: int) -> None:
    """Check how deep a value is nested."""
    if isinstance(value, (dict, list)):
        if not levels:
            raise RefusedError("nested too deep")
        for one in value.values() if isinstance(value, dict) else value:
            if isinstance(one, (dict, list)):
                _flat(one, levels - 1)


def _json(value: object) -> str:
    return _ENCODER.encode(value).decode()


def _state(message: wire.State, _rest: str) -> Body:
    active, outbox = message.active, message.outbox
    return messages.State(
        status=message.status,
        agent=message.agent,
        release=active.release if active else "",
        model=active.model if active else "",
        precision=(active.precision or "") if active else "",
        job=_json(message.job) if message.job else "",
        waiting=outbox.n if outbox else 0,
        dropped=outbox.dropped_total if outbox else 0,
    )


def _inventory(message: wire.Inventory, _rest: str) -> Body:
    environment = message.environment
    return messages.Inventory(
        board=str(environment.get("board") or environment.get("machine") or "")[:128],
        jetpack=str(environment.get("l4t") or "")[:128],
        labels=tuple(message.labels.items()),
        environment=_json(environment),
        models=_json(message.models),
        commands=_json(message.commands),
    )


def _releases(message: wire.Releases, _rest: str) -> Body:
    good = [one.id for one in message.releases if one.good]
    pinned = any(one.pinned and one.id == message.active for one in message.releases)
    return messages.Releases(_json(message.releases), max(good, default=""), pinned)


def _telemetry(message: _Telemetry, _rest: str) -> Body:
    return messages.Telemetry(_json(message.m), message.m)


def _event(message: wire.Event, _rest: str) -> Body:
    _flat(message.facts, _DEPTH)
    return messages.Event(message.kind, message.severity, _json(message.facts))


def _result(message: wire.Result, rest: str) -> Body:
    if message.cmd_id != rest:
        raise RefusedError(f"the answer is to {message.cmd_id}, its topic to {rest}")
    progress, reason = message.progress, message.reason
    return messages.Result(
        command=message.cmd_id,
        stage=message.stage.value,
        version=message.version,
        step=progress.step if progress else "",
        pct=progress.pct if progress else None,
        code=reason.code if reason else "",
        detail=reason.detail if reason else "",
        reference=message.result_ref or "",
    )


def _report(message: wire.Report, rest: str) -> Body:
    if message.model != rest:
        raise RefusedError(f"the report is on {message.model}, its topic on {rest}")
    _flat(message.report, _REPORT_DEPTH)
    return summary(message.model, message.report, _ENCODER.encode(message.report))


_ENCODER = msgspec.json.Encoder()
_KINDS: dict[str, tuple[msgspec.json.Decoder[Any], Callable[[Any, str], Body]]] = {
    "telemetry": (msgspec.json.Decoder(_Telemetry), _telemetry),
    "state": (msgspec.json.Decoder(wire.State), _state),
    "meta": (msgspec.json.Decoder(wire.Inventory), _inventory),
    "releases": (msgspec.json.Decoder(wire.Releases), _releases),
    "event": (msgspec.json.Decoder(wire.Event), _event),
    "report": (msgspec.json.Decoder(wire.Report), _report),
    "res": (msgspec.json.Decoder(wire.Result), _result),
}
