"""The connection to the broker: MQTT 5 over paho-mqtt.

paho's own thread connects, reconnects and calls back; every callback only puts an event into
the mailbox. Messages without an acknowledgement when a connection is lost are dropped here and
sent again from the outbox, which gives up on a message that makes the broker close connections.
"""

from __future__ import annotations

import random
import ssl
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent import config
from agent.core.control.link import (
    Acked,
    CommandArrived,
    Connected,
    Disconnected,
    LinkEvent,
    Refused,
)
from agent.core.errors import ConfigError, QuantdError
from agent.wire.topics import Topics

_TLS_PORT = 8883
_SESSION_S = 7 * 86_400
_RECEIVE_MAXIMUM = 20
_PACKET_LIMIT_BYTES = (
    256 * 1024
)  # larger than the limit of a command, so that a larger one is answered
_MID_BITS = 16
# A retained command keeps its flag when it arrives live, so that it can be refused, and the
# broker's stored copy comes with a new session only, not at each connection.
_COMMANDS = SubscribeOptions(
    qos=1,
    retainAsPublished=True,
    retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB,
)
_STOP_WAIT_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Waiting times for the broker, s. The delay between attempts doubles up to `longest_delay_s`."""

    first_delay_s: tuple[float, float] = (1.0, 5.0)
    longest_delay_s: tuple[float, float] = (60.0, 180.0)
    keepalive_s: int = 30
    will_delay_s: int = 10  # a short loss of the link is not shown as offline
    farewell_s: float = 3.0


class _Client(mqtt.Client):
    """A paho client that reports when its thread has ended, and why."""

    ended: threading.Event
    died: Callable[[str], None]

    def loop_forever(
        self, timeout: float = 1.0, retry_first_connection: bool = False
    ) -> MQTTErrorCode:
        """Run the network loop; paho's thread calls this."""
        try:
            return super().loop_forever(timeout, retry_first_connection)
        finally:
            self.ended.set()
            error = sys.exc_info()[1]
            if error is not None:
                self.died(f"{type(error).__name__}: {error}")


@dataclass
class MqttLink:
    """The link to one broker. Not connected before `start`.

    Attributes:
        settings: Table [mqtt].
        topics: The device's topics; its id is the client id.
        post: Puts an event into the mailbox; called from paho's thread.
        crowded: Returns whether the mailbox is so full that commands of QoS 0 are dropped. QoS 1
            can't fill it: the broker limits how many are unacknowledged.
        next_session: Returns a persisted number greater than all before; called in that thread too.
        will: Returns the last will of the connection with this number.
        patience: Waiting times.
        session: See `ports.Link`.
    """

    settings: config.Mqtt
    topics: Topics
    post: Callable[[LinkEvent], None]
    next_session: Callable[[], int]
    will: Callable[[int], bytes]
    crowded: Callable[[], bool]
    patience: Patience = Patience()
    session: int = 0
    _connections: int = 0  # of this process; distinguishes messages of different connections
    _client: _Client | None = None

    def start(self) -> None:
        """See `ports.Link`."""
        if self._client is not None:
            _abandon(self._client)
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.topics.device,
            protocol=mqtt.MQTTv5,
            manual_ack=True,
        )
        client.ended = threading.Event()
        client.died = lambda why: self.post(Disconnected(f"network thread: {why}", dead=True))
        client.max_inflight_messages_set(0)  # the outbox decides how many
        client.reconnect_delay_set(
            random.uniform(*self.patience.first_delay_s),  # type: ignore[arg-type]
            random.uniform(*self.patience.longest_delay_s),  # type: ignore[arg-type]
        )
        if uses_tls(self.settings):
            client.tls_set_context(tls_context(self.settings.tls))
        client.on_pre_connect = self._on_pre_connect
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        options = _properties(
            PacketTypes.CONNECT,
            SessionExpiryInterval=_SESSION_S,
            ReceiveMaximum=_RECEIVE_MAXIMUM,
            MaximumPacketSize=_PACKET_LIMIT_BYTES,
        )
        client.connect_async(
            self.settings.host,
            self.settings.port,
            keepalive=self.patience.keepalive_s,
            clean_start=False,
            properties=options,
        )
        self._client = client
        client.loop_start()

    def send(self, topic: str, body: bytes, *, qos: int, retain: bool, expiry_s: int) -> int | None:
        """See `ports.Link`."""
        client, connection = self._client, self._connections
        if client is None or not client.is_connected():
            return None
        expiry = {"MessageExpiryInterval": expiry_s} if expiry_s > 0 else {}
        options = _properties(PacketTypes.PUBLISH, **expiry)
        sent = client.publish(topic, body, qos=qos, retain=retain, properties=options)
        if sent.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            return None  # paho may still have it; it is dropped before the next connection
        return connection << _MID_BITS | sent.mid

    def acknowledge(self, message: int) -> None:
        """See `ports.Link`."""
        if self._client is not None and message >> _MID_BITS == self._connections:
            self._client.ack(message & ((1 << _MID_BITS) - 1), 1)

    def stop(self, topic: str, farewell: bytes) -> None:
        """See `ports.Link`."""
        client, self._client = self._client, None
        if client is None:
            return
        _abandon(client, disconnect=False)
        if client.is_connected():
            sent = client.publish(topic, farewell, qos=1, retain=True)
            if sent.rc is MQTTErrorCode.MQTT_ERR_SUCCESS:
                sent.wait_for_publish(self.patience.farewell_s)
        for _ in range(round(self.patience.farewell_s / _STOP_WAIT_S)):
            client.disconnect()  # lost while a connection is being made: repeat it
            if client.ended.wait(_STOP_WAIT_S):
                client.loop_stop()
                return  # otherwise it is in a name look-up; its thread ends with the process

    # paho's thread ----------------------------------------------------------------------------

    def _on_pre_connect(self, client: mqtt.Client, _data: Any) -> None:
        client.drop_out_messages()
        self._connections += 1
        try:
            self.session = self.next_session()
            if self.settings.username:
                client.username_pw_set(self.settings.username, password(self.settings))
        except QuantdError as error:  # without the journal the number must still grow
            self.session += 1
            self.post(Disconnected(str(error)))
        options = _properties(PacketTypes.WILLMESSAGE, WillDelayInterval=self.patience.will_delay_s)
        client.will_set(
            self.topics.state, self.will(self.session), qos=1, retain=True, properties=options
        )

    def _on_connect(
        self,
        client: mqtt.Client,
        _data: Any,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self.post(Disconnected(f"the broker refused: {reason}", code=reason.value))
            return
        client.subscribe(self.topics.command_filter, options=_COMMANDS)
        limit = getattr(properties, "MaximumPacketSize", None)
        self.post(Connected(self.session, flags.session_present, limit))

    def _on_connect_fail(self, _client: mqtt.Client, _data: Any) -> None:
        error = sys.exc_info()[1]  # paho calls this while it handles the error
        where = f"{self.settings.host}:{self.settings.port}"
        self.post(Disconnected(f"{where}: {error or 'no connection'}"))

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _data: Any,
        flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        *_: Any,
    ) -> None:
        from_broker = flags.is_disconnect_packet_from_server
        self.post(Disconnected(str(reason), code=reason.value if from_broker else None))

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, _mid: int, reasons: list[ReasonCode], *_: Any
    ) -> None:
        for reason in reasons:
            if reason.is_failure:
                self.post(Refused(self.topics.command_filter, str(reason)))

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if not message.qos and self.crowded():
            return
        # QoS 0 is not acknowledged: 0 is the number of no connection.
        number = self._connections << _MID_BITS | message.mid if message.qos else 0
        body = bytes(message.payload)
        self.post(CommandArrived(message.topic, body, bool(message.retain), number))

    def _on_publish(
        self, _client: mqtt.Client, _data: Any, mid: int, reason: ReasonCode, *_: Any
    ) -> None:
        number = self._connections << _MID_BITS | mid
        self.post(Acked(number, not reason.is_failure, reason.value))


def uses_tls(settings: config.Mqtt) -> bool:
    """Return whether the connection is encrypted: a TLS file is set, or the port is 8883."""
    tls = settings.tls
    return bool(tls.ca or tls.cert or tls.key) or settings.port == _TLS_PORT


def tls_context(tls: config.Tls) -> ssl.SSLContext:
    """Return a context that verifies the broker's name, TLS 1.2 or later.

    Raises:
        ConfigError: if a file can't be used.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.cert:
            # no password: OpenSSL would ask a terminal for that of an encrypted key
            context.load_cert_chain(tls.cert, tls.key or None, password="")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"mqtt.tls: {error} (ca={tls.ca!r}, cert={tls.cert!r}, key={tls.key!r})",
            hint="PEM files that the daemon's user can read; cert and key belong together",
        ) from error
    return context


def password(settings: config.Mqtt) -> str | None:
    """Return the password, read at each connection so that it can be changed; None without one.

    Raises:
        ConfigError: if its file can't be read.
    """
    if not settings.password_file:
        return None
    try:
        return Path(settings.password_file).read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"mqtt.password_file: {error}") from error


def _properties(kind: int, **values: int) -> Properties:
    found = Properties(kind)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(found, name, value)
    return found


def _abandon(client: mqtt.Client, *, disconnect: bool = True) -> None:
    """Remove a client's callbacks and disconnect it."""
    if disconnect:
        client.disconnect()
    client.on_connect = client.on_connect_fail = client.on_disconnect = None
    client.on_message = client.on_publish = client.on_subscribe = None
