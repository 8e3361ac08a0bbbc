"""The daemon's side that faces the broker: incoming commands, outgoing messages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.core.control.command import Command
from agent.core.control.effects import (
    Answer,
    Effect,
    PublishEvent,
    PublishReport,
    PublishState,
    PublishTelemetry,
    Resend,
)
from agent.core.control.journal import Answered
from agent.core.control.link import (
    Acked,
    CommandArrived,
    Connected,
    Disconnected,
    LinkEvent,
    Subscribed,
)
from agent.core.control.step import State
from agent.core.errors import StoreError
from agent.daemon.inbox import Inbox
from agent.daemon.loop import Outward
from agent.daemon.messages import Messages
from agent.daemon.notices import Notices
from agent.daemon.outbox import Outbox
from agent.ports import Clock, Journal, Link
from agent.wire import messages as wire
from agent.wire.topics import Topics

_LOG = logging.getLogger(__name__)
_TIDY_EVERY_NS = 60_000_000_000
_TIDY_OFFLINE_NS = 60 * _TIDY_EVERY_NS  # each time costs an event that has to wait too
_RESENT = ("result", "report")  # unless a stream is named


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What messages contain of this device, looked up when they are written.

    Attributes:
        active: The release in use, or None.
        releases: All releases, newest first.
        telemetry: Figures of the moment, but for the progress of a job.
        environment: For `meta`.
        report: Returns (model, report) of a run, or None.
        discovery: Topic and message for Home Assistant; an empty message where it is switched off.
    """

    labels: Mapping[str, str]
    model: str
    active: Callable[[], wire.Active | None]
    releases: Callable[[], Sequence[wire.Release]]
    telemetry: Callable[[], Mapping[str, float | int | bool | None]]
    environment: Callable[[], Mapping[str, str | int | float | None]]
    report: Callable[[str], tuple[str, Mapping[str, Any]] | None]
    discovery: tuple[str, bytes]


@dataclass(kw_only=True)
class Broker(Outward):
    """The daemon's messages and commands over MQTT.

    Attributes:
        link: The connection.
        topics: The device's topics.
        journal: For resending.
        messages: Writes into the outbox.
        inbox: Judges commands.
        outbox: Sends.
        facts: What messages contain.
        clock: For the pace of tidying.
        notices: Counts and announces what is dropped or refused.
    """

    link: Link
    topics: Topics
    journal: Journal
    messages: Messages
    inbox: Inbox
    outbox: Outbox
    facts: Facts
    clock: Clock
    notices: Notices
    _tidied_ns: int = 0
    _subscribed: bool = True
    _loss: str = ""
    _shown: object = None  # releases as last published

    def start(self) -> None:
        """See `loop.Outward`."""
        self.link.start()

    def take(self, event: LinkEvent) -> None:
        """Handle an event of the link, other than a command."""
        if isinstance(event, Connected):
            _LOG.info("broker_connected session=%d", event.session)
            self._loss = ""
            self.outbox.connected(event)
            self._subscribed = not event.refused
            if event.refused:
                facts = {"topic": self.topics.command_filter, "reason": event.refused}
                self.notices.note("subscription_refused", facts)
        elif isinstance(event, Disconnected):
            self.outbox.disconnected(event)
            self._lost(event)
        elif isinstance(event, Acked):
            self.outbox.acked(event)
        elif isinstance(event, Subscribed):
            _LOG.info("subscription_granted topic=%s", self.topics.command_filter)
            self._subscribed = True

    def admit(self, arrived: Sequence[CommandArrived]) -> Sequence[Command]:
        """Store commands, all or none, and acknowledge them; return those to run.

        Raises:
            StoreError: if they can't be stored; then none is acknowledged.
        """
        with self.journal.atomic():
            found = [self.inbox.admit(one) for one in arrived]
            for one in arrived:
                if self.topics.command_id(one.topic) is None:
                    self.notices.note("command_misaddressed", {"topic": one.topic})
        for one, command in zip(arrived, found, strict=True):
            self.link.acknowledge(one.message)
            if isinstance(command, Command):
                _LOG.info("command_received id=%s type=%s", command.id, command.type)
            elif command is not None:
                _LOG.warning(
                    "command_rejected topic=%s code=%s %s", one.topic, command.code, command.cause
                )
        return [command for command in found if isinstance(command, Command)]

    def publish(self, effect: Effect, state: State) -> None:
        """Put into the outbox what an effect is about; ignore the others."""
        if isinstance(effect, PublishState):
            self._publish_state(state, with_meta=effect.with_meta)
        elif isinstance(effect, PublishTelemetry):
            self._publish_telemetry(state)
        elif isinstance(effect, PublishEvent):
            self.messages.event(effect.kind, effect.severity, effect.facts)
        elif isinstance(effect, PublishReport):
            found = self.facts.report(effect.run_id)
            if found is not None:
                self.messages.report(*found)
        elif isinstance(effect, Answer):
            self._answer(effect)
        elif isinstance(effect, Resend):
            asked = effect.request
            streams = (asked.stream,) if asked.stream else _RESENT
            self.journal.resend(streams, asked.from_seq, asked.to_seq)

    def pump(self) -> None:
        """Give up what has expired, now and then; hand over what waits."""
        now_ns = self.clock.monotonic_ns()
        if self.outbox.silent:
            reason = f"nothing was acknowledged for {self.outbox.silence_s:.0f} s"
            self.link.start()  # first: the journal may not be able to take the event
            self.take(Disconnected(reason, cause="broker_silent"))
        pace_ns = _TIDY_EVERY_NS if self.outbox.online else _TIDY_OFFLINE_NS
        if now_ns - self._tidied_ns > pace_ns:
            self._tidied_ns = now_ns
            self.outbox.tidy()
        self.outbox.pump()

    def stop(self) -> None:
        """Publish the shutdown and disconnect; if the journal can't number it, the will is sent."""
        try:
            farewell = self.messages.farewell()
        except StoreError as error:
            _LOG.error("no_farewell code=%s %s", error.code, error.message)
        else:
            self.link.stop(self.topics.state, farewell)

    def _lost(self, event: Disconnected) -> None:
        """Report a loss; the failures that follow it only where the reason is another."""
        repeated, self._loss = event.reason == self._loss, event.reason
        if not repeated:
            _LOG.warning("broker_lost reason=%s", event.reason)
        if event.cause:
            self.notices.note(event.cause, {"reason": event.reason}, quiet=repeated)

    def _publish_telemetry(self, state: State) -> None:
        """Publish the figures; and the state, if a person changed the releases meanwhile."""
        figures = {
            **self.facts.telemetry(),
            "job_percent": state.percent,
            **self.notices.counts,
            "messages_unheard": self.outbox.unheard,
        }
        self.messages.telemetry(figures)
        if (self.facts.active(), self.facts.releases()) != self._shown:
            self._publish_state(state, with_meta=False)

    def _publish_state(self, state: State, *, with_meta: bool) -> None:
        running = state.running
        job = None
        if running is not None:
            job = wire.Job(
                run_id=running.run_id, kind=running.kind, stage=state.stage, pct=state.percent
            )
        active, releases = self.facts.active(), self.facts.releases()
        self.messages.state(
            active=active,
            job=job,
            subscribed=self._subscribed,
            unheard=self.outbox.unheard,
        )
        if with_meta or (active, releases) != self._shown:
            self.messages.releases(active.release if active else None, releases)
            self._shown = active, releases
        if with_meta:
            self.messages.meta(
                labels=self.facts.labels,
                environment=self.facts.environment(),
                models=(self.facts.model,),
            )
            self.messages.announce(*self.facts.discovery)

    def _answer(self, effect: Answer) -> None:
        progress = None
        if effect.step:
            progress = wire.Progress(step=effect.step, pct=effect.percent)
        answer = Answered(
            stage=effect.stage, code=effect.code, detail=effect.detail, result=effect.result
        )
        try:
            self.messages.result(effect.command_id, answer, progress)
        except StoreError as error:
            if error.code != "stage":  # published before a restart already
                raise
