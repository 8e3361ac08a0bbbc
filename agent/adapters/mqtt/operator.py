"""An operator's connection: publishes signed commands and receives the answers."""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent import config
from agent.adapters.mqtt.client import properties
from agent.adapters.mqtt.credentials import password, tls_context, uses_tls
from agent.core.control.command import CommandId
from agent.core.control.following import ABSENT, Followed
from agent.core.errors import LinkError
from agent.wire import messages as wire
from agent.wire.issuing import SignedCommand
from agent.wire.topics import Topics

_SESSION_S = 3600  # answers wait while the link is lost
_IN_FLIGHT = 500
_SINGLY = 20  # devices that are subscribed to one by one
_NO_SUBSCRIBER = 0x10
_ANSWER_S = 20.0
_RESULT = msgspec.json.Decoder(wire.Result)


@dataclass
class OperatorLink:
    """A connection to one broker, as a context manager.

    Attributes:
        settings: Table [mqtt]; its root is that of the devices.
        commands: What is to be published.
    """

    settings: config.Mqtt
    commands: Sequence[SignedCommand]
    # Answers of devices; a packet's id with the broker's answer; None for a session that was lost.
    _arrived: queue.SimpleQueue[Followed | tuple[int, ReasonCode] | None] = field(
        default_factory=queue.SimpleQueue
    )
    _client: mqtt.Client = field(init=False)
    _ready: threading.Event = field(default_factory=threading.Event)
    _refused: str = ""
    _published: dict[int, SignedCommand] = field(default_factory=dict)

    def __enter__(self) -> OperatorLink:
        """Connect and subscribe to the answers.

        Raises:
            ConfigError: if the TLS files or the password can't be used.
            LinkError: if the broker can't be reached or refuses.
        """
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"quantd-send-{secrets.token_hex(6)}",
            protocol=mqtt.MQTTv5,
        )
        client.suppress_exceptions = True
        client.max_inflight_messages_set(_IN_FLIGHT)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        settings = self.settings
        where = f"broker {settings.host}:{settings.port}"
        if uses_tls(settings):
            client.tls_set_context(tls_context(settings.tls))
        if settings.username:
            client.username_pw_set(settings.username, password(settings))
        try:
            client.connect(
                settings.host,
                settings.port,
                clean_start=False,
                properties=properties(PacketTypes.CONNECT, SessionExpiryInterval=_SESSION_S),
            )
        except (OSError, ValueError) as error:
            raise LinkError(f"{where}: {error}", hint="--broker HOST:PORT") from error
        client.loop_start()
        answered = self._ready.wait(_ANSWER_S)
        if self._refused or not answered:
            self.__exit__()
            raise LinkError(f"{where}: {self._refused or 'no answer to the subscription'}")
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect; the broker forgets the session."""
        ended = properties(PacketTypes.DISCONNECT, SessionExpiryInterval=0)
        self._client.disconnect(properties=ended)
        self._client.loop_stop()

    def publish(self, commands: Iterable[SignedCommand]) -> None:
        """Publish commands, unchanged each time; a device answers one that it knows."""
        for one in commands:
            left_s = max(1, int(one.exp_s - time.time()))
            sent = self._client.publish(
                Topics(self.settings.root, one.device).command(one.id),
                one.token,
                qos=1,
                properties=properties(PacketTypes.PUBLISH, MessageExpiryInterval=left_s),
            )
            self._published[sent.mid] = one

    def answer(self, timeout_s: float) -> Followed | None:
        """Return the next answer of a device, or why there will be none; None if none came."""
        try:
            found = self._arrived.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if found is None:
            self.publish(self.commands)
        if not isinstance(found, tuple):
            return found
        mid, reason = found
        one = self._published.get(mid)
        if one is not None and reason.is_failure:
            return _of(one, f"the broker refused it: {reason}")
        if one is not None and reason.value == _NO_SUBSCRIBER:
            return replace(_of(one, "no device of this id has subscribed"), code=ABSENT)
        return None

    # The client's thread ----------------------------------------------------------------------

    def _filters(self) -> list[str]:
        ids = {one.id for one in self.commands}
        devices = {one.device for one in self.commands}
        of_ids = ids if len(ids) <= _SINGLY else {"+"}
        of_devices = devices if len(devices) <= _SINGLY else {"+"}
        return [
            Topics(self.settings.root, device).result(one)
            for device in sorted(of_devices)
            for one in sorted(of_ids)
        ]

    def _on_connect(
        self, client: mqtt.Client, _data: Any, flags: mqtt.ConnectFlags, reason: ReasonCode, *_: Any
    ) -> None:
        if reason.is_failure:
            self._refused = f"the broker refused: {reason}"
            self._ready.set()
            return
        if self._ready.is_set() and not flags.session_present:
            self._arrived.put(None)
        client.subscribe([(one, SubscribeOptions(qos=1)) for one in self._filters()])

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, _mid: int, reasons: list[ReasonCode], *_: Any
    ) -> None:
        refused = [str(one) for one in reasons if one.is_failure]
        if refused:
            self._refused = f"it denies the answers ({self._filters()[0]}): {refused[0]}"
        self._ready.set()

    def _on_publish(
        self, _client: mqtt.Client, _data: Any, mid: int, reason: ReasonCode, *_: Any
    ) -> None:
        self._arrived.put((mid, reason))

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            answer = _RESULT.decode(message.payload)
            expected = Topics(self.settings.root, answer.dev).result(answer.cmd_id)
            if message.topic != expected:
                return
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return  # of no device that keeps to the schema
        self._arrived.put(_followed(answer))


def _of(command: SignedCommand, trouble: str) -> Followed:
    return Followed(device=command.device, id=command.id, trouble=trouble)


def _followed(answer: wire.Result) -> Followed:
    return Followed(
        device=answer.dev,
        id=CommandId(answer.cmd_id),
        stage=answer.stage,
        version=answer.version,
        code=answer.reason.code if answer.reason else "",
        detail=answer.reason.detail if answer.reason else "",
        step=answer.progress.step if answer.progress else "",
        percent=answer.progress.pct if answer.progress else None,
        result=answer.result_ref or "",
    )
