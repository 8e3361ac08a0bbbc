"""One connection to the broker: its callbacks, from CONNECT to its loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.adapters.mqtt.client import Client
from agent.core.control.link import (
    Acked,
    CommandArrived,
    Connected,
    Disconnected,
    LinkEvent,
    Subscribed,
)
from agent.core.errors import LinkError

MID_BITS = 16
# A retained command keeps its flag when it arrives live, so that it can be refused, and the
# broker's stored copy comes with a new session only, not at each connection.
_COMMANDS = SubscribeOptions(
    qos=1,
    retainAsPublished=True,
    retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB,
)
CLOSED = "the broker closed the connection"
TAKEN_OVER = "session_taken_over"
_SESSION_TAKEN_OVER = 0x8E
_NO_REASON = "Unspecified error"  # paho's word for a socket that was closed
_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")  # in the names of TLS alerts


@dataclass
class Connection:
    """Turns the callbacks of one client into events. All of them are called by its thread.

    Attributes:
        client: Makes the connection.
        command_filter: What is subscribed to.
        session: Its number.
        post: Puts an event into the mailbox.
        answer_s: How long the broker may take to answer the subscription.
        retry_s: Time until a refused subscription is asked for again.
        accepted: What the broker's acceptance contained; None before.
        lost: How the connection ended, if the broker or paho gave a reason.
    """

    client: Client
    command_filter: str
    session: int
    post: Callable[[LinkEvent], None]
    answer_s: float
    retry_s: float
    accepted: Connected | None = None
    lost: Disconnected | None = None
    _posted: bool = False
    _look_s: float = math.inf  # when the answer is late, or a refused subscription is repeated

    def __post_init__(self) -> None:
        """Register the callbacks."""
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = self._on_message
        self.client.on_publish = self._on_publish

    @property
    def closed_for_nothing(self) -> bool:
        """Return whether the broker ended it without a reason and without a message of ours."""
        return (
            self._posted
            and self.lost is not None
            and self.lost.reason == CLOSED
            and not self.client.unacknowledged
        )

    def look(self) -> None:
        """Subscribe again if that is due; call it now and then.

        Raises:
            LinkError: if the subscription was not answered.
        """
        if time.monotonic() < self._look_s:
            return
        if not self._posted:
            seen = f"the broker has not answered the subscription in {self.answer_s:g} s"
            raise LinkError(seen, code="broker_silent")
        self._subscribe()
        self._look_s = time.monotonic() + self.retry_s

    def _subscribe(self) -> None:
        self.client.subscribe(self.command_filter, options=_COMMANDS)

    def _on_connect(
        self,
        _client: mqtt.Client,
        _data: Any,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self.lost = Disconnected(f"the broker refused: {reason}", code=reason.value)
            return
        self.accepted = Connected(
            self.session,
            flags.session_present,
            getattr(properties, "MaximumPacketSize", None),
            receive_maximum=getattr(properties, "ReceiveMaximum", 0xFFFF),
        )
        self._subscribe()
        self._look_s = time.monotonic() + self.answer_s

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, _mid: int, reasons: list[ReasonCode], *_: Any
    ) -> None:
        refused = "".join(str(reason) for reason in reasons if reason.is_failure)
        if self.accepted is not None and not self._posted:
            self._posted = True
            self.post(replace(self.accepted, refused=refused))
        elif not refused:
            self.post(Subscribed())
        self._look_s = time.monotonic() + self.retry_s if refused else math.inf

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _data: Any,
        flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        *_: Any,
    ) -> None:
        if self.lost is not None:  # paho may call this twice
            return
        if flags.is_disconnect_packet_from_server:
            cause = TAKEN_OVER if reason.value == _SESSION_TAKEN_OVER else ""
            self.lost = Disconnected(str(reason), code=reason.value, cause=cause)
        else:
            why = self.client.last_error or str(reason)
            self.lost = loss(CLOSED if why == _NO_REASON else why)

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # of no command
        # QoS 0 is not acknowledged: 0 is the number of no connection.
        number = self.client.number << MID_BITS | message.mid if message.qos else 0
        self.post(CommandArrived(topic, bytes(message.payload), bool(message.retain), number))

    def _on_publish(
        self, _client: mqtt.Client, _data: Any, mid: int, reason: ReasonCode, *_: Any
    ) -> None:
        number = self.client.number << MID_BITS | mid
        self.post(Acked(number, not reason.is_failure, reason.value))


def loss(error: str, where: str = "") -> Disconnected:
    """Return the end of a connection by an error of its socket; name a refused certificate."""
    if "ALERT" in error and any(word in error for word in _CERTIFICATE):
        reason = f"the broker refused the certificate of this device (mqtt.tls.cert): {error}"
        return Disconnected(reason, cause="certificate_refused")
    return Disconnected(where + error)
