"""The connection to the broker: MQTT 5 over paho-mqtt.

One thread connects, reads and writes, and connects again; each connection is a client of its own,
with the TLS files and the password of that moment. Callbacks only put events into the mailbox.
Messages without an acknowledgement when a connection is lost are dropped here and sent again
from the outbox, which gives up on a message that makes the broker close connections.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes

from agent import config
from agent.adapters.mqtt.client import Client, properties
from agent.adapters.mqtt.connection import CLOSED, MID_BITS, TAKEN_OVER, Connection, loss
from agent.adapters.mqtt.credentials import password, tls_context, uses_tls
from agent.core.control.link import PACKET_LIMIT_BYTES, Disconnected, LinkEvent
from agent.core.errors import ConfigError, LinkError, StoreError
from agent.wire.topics import Topics

_SESSION_S = 7 * 86_400
_RECEIVE_MAXIMUM = 20  # commands not yet acknowledged
_CALM_S = 600.0  # a connection of that length ends the pauses after a take-over
# mosquitto 2.0 closes a connection that another client takes over without a reason.
_CONTESTED = 3  # such connections in a row
_SOON_S = 60.0
_GUESSED_S = 30.0  # longest pause after them: the broker may just be restarting


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Waiting times for the broker, s. The delay between attempts doubles up to `longest_delay_s`."""

    first_delay_s: tuple[float, float] = (1.0, 5.0)
    longest_delay_s: tuple[float, float] = (60.0, 180.0)
    keepalive_s: int = 30
    will_delay_s: int = 10  # a short loss of the link is not shown as offline
    subscribe_s: float = 60.0  # until a refused subscription is asked for again
    farewell_s: float = 3.0


@dataclass
class MqttLink:
    """The link to one broker. Not connected before `start`.

    Attributes:
        settings: Table [mqtt].
        topics: The device's topics; its id is the client id.
        post: Puts an event into the mailbox; called from the link's thread.
        crowded: Returns whether the mailbox is so full that reading must wait.
        next_session: Returns a persisted number greater than all before; called in that thread too.
        will: Returns the last will of the connection with this number.
        patience: Waiting times.
        session: See `ports.Link`; that of the connection before, at first.
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
    _client: Client | None = None
    _thread: threading.Thread | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _wake: int = -1

    def start(self) -> None:
        """See `ports.Link`."""
        client = self._client
        if self._thread is None:
            self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
            self._thread.start()
        elif client is not None:
            client.leave()

    def send(self, topic: str, body: bytes, *, qos: int, retain: bool, expiry_s: int) -> int | None:
        """See `ports.Link`."""
        client = self._client
        if client is None or not client.is_connected():
            return None
        options = None  # an object of paho's properties takes as long as all the rest
        if expiry_s > 0:
            options = properties(PacketTypes.PUBLISH, MessageExpiryInterval=expiry_s)
        sent = client.publish(topic, body, qos=qos, retain=retain, properties=options)
        if sent.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            return None
        return client.number << MID_BITS | sent.mid

    def acknowledge(self, message: int) -> None:
        """See `ports.Link`."""
        client = self._client
        if client is not None and message >> MID_BITS == client.number:
            client.ack(message & ((1 << MID_BITS) - 1), 1)

    def stop(self, topic: str, farewell: bytes) -> None:
        """See `ports.Link`."""
        client, thread = self._client, self._thread
        self._stopping.set()
        if client is not None and client.is_connected():
            sent = client.publish(topic, farewell, qos=1, retain=True)
            if sent.rc is MQTTErrorCode.MQTT_ERR_SUCCESS:
                sent.wait_for_publish(self.patience.farewell_s)
            client.disconnect()
        elif client is not None:
            client.leave()
        if thread is not None:
            thread.join(self.patience.farewell_s)
            if not thread.is_alive():  # otherwise it is in a name look-up
                os.close(self._wake)
                self._thread = None

    # The link's thread ------------------------------------------------------------------------

    def _run(self) -> None:
        first_s = random.uniform(*self.patience.first_delay_s)
        longest_s = random.uniform(*self.patience.longest_delay_s)
        delay_s, contested = 0.0, 0
        while not self._stopping.wait(delay_s):
            begun_s = time.monotonic()
            connection, lost = self._connect_once()
            lasted_s = time.monotonic() - begun_s
            if connection.accepted is not None:
                doubtful = connection.closed_for_nothing and lasted_s < _SOON_S
                contested = contested + 1 if doubtful else 0
            else:
                contested = 0  # a broker that was away is the simpler explanation
            if contested >= _CONTESTED:
                seen = f"{lost.reason}, {contested} times in a row soon after it had accepted it"
                maybe = f"another client may use the id {self.topics.device}"
                lost = replace(lost, reason=f"{seen}: {maybe}", cause=TAKEN_OVER)
            calm = lost.cause != TAKEN_OVER or lasted_s > _CALM_S
            if (connection.accepted and calm) or lost.cause == "credentials_unusable":
                delay_s = first_s
            else:
                most_s = longest_s if lost.code or not connection.accepted else _GUESSED_S
                delay_s = min(max(first_s, 2 * delay_s), longest_s, most_s)
            self.post(lost)

    def _connect_once(self) -> tuple[Connection, Disconnected]:
        """Make a connection and serve it; return it and its end."""
        self._connections += 1
        client = Client(self.topics.device, self._connections, self._wake)
        connection = Connection(
            client,
            self.topics.command_filter,
            self._next_session(),
            self.post,
            answer_s=self.patience.keepalive_s,
            retry_s=self.patience.subscribe_s,
        )
        try:
            self._open(client)
            self._client = client
            if self._stopping.is_set():
                client.leave()
            client.serve(lambda: self.crowded() and not self._stopping.is_set(), connection.look)
            found = Disconnected(CLOSED)
        except ConfigError as error:
            found = Disconnected(str(error), cause="credentials_unusable")
        except LinkError as error:
            found = Disconnected(error.message, cause=error.code)
        except (OSError, ValueError) as error:
            found = loss(str(error), f"{self.settings.host}:{self.settings.port}: ")
        except Exception as error:  # paho, on a packet that it can't read
            found = Disconnected(f"network thread: {type(error).__name__}: {error}")
        finally:
            self._client = None
            client.close()
        return connection, connection.lost or found

    def _next_session(self) -> int:
        following = self.session + 1  # it must grow without the journal too, and after that
        try:
            self.session = max(following, self.next_session())
        except StoreError:
            self.session = following
        return self.session

    def _open(self, client: Client) -> None:
        """Connect and send CONNECT.

        Raises:
            ConfigError: if the TLS files or the password can't be used.
            OSError: if there is no connection.
        """
        if uses_tls(self.settings):
            client.tls_set_context(tls_context(self.settings.tls))
        if self.settings.username:
            client.username_pw_set(self.settings.username, password(self.settings))
        delay = properties(PacketTypes.WILLMESSAGE, WillDelayInterval=self.patience.will_delay_s)
        will = self.will(self.session)
        client.will_set(self.topics.state, will, qos=1, retain=True, properties=delay)
        options = properties(
            PacketTypes.CONNECT,
            SessionExpiryInterval=_SESSION_S,
            ReceiveMaximum=_RECEIVE_MAXIMUM,
            MaximumPacketSize=PACKET_LIMIT_BYTES,
        )
        client.connect(
            self.settings.host,
            self.settings.port,
            keepalive=self.patience.keepalive_s,
            clean_start=False,
            properties=options,
        )
