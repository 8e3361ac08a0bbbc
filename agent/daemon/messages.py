"""The messages of the device, from the facts to the outbox: stamped, numbered, classed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agent import __version__
from agent.core.control.events import Severity
from agent.core.control.journal import Answered, MessageClass, Outgoing
from agent.core.control.ulid import Ulids
from agent.ports import Clock, Journal
from agent.wire import messages as wire
from agent.wire.commands import COMMANDS
from agent.wire.topics import Topics

TELEMETRY_EXPIRY_S = 3600
_DISCOVERY = "discovery"


@dataclass
class Messages:
    """Puts messages into the outbox; what belongs together is one transaction.

    Attributes:
        topics: The device's topics.
        journal: Numbers the messages and holds them.
        clock: For their times.
        boot: The kernel's boot id.
        session: Returns the number of the current or last connection.
        clock_ok: Returns whether the wall clock is synchronized.
    """

    topics: Topics
    journal: Journal
    clock: Clock
    boot: str
    session: Callable[[], int]
    clock_ok: Callable[[], bool]
    _ulids: Ulids = field(default_factory=Ulids)

    def state(
        self,
        *,
        active: wire.Active | None,
        job: wire.Job | None,
        subscribed: bool = True,
        unheard: int = 0,
    ) -> None:
        """Publish that the device is online, its active release, its work, if commands arrive."""
        counts = self.journal.counts()
        waiting = wire.Outbox(
            n=counts.waiting,
            bytes=counts.waiting_bytes,
            oldest_s=round(counts.oldest_s, 1),
            parked=counts.parked,
            dropped_total=counts.evicted,
            unheard=unheard,
        )
        with self.journal.atomic():
            message = wire.State(
                **self._stamp("state"),
                status="online",
                agent=__version__,
                outbox=waiting,
                active=active,
                job=job,
                subscribed=subscribed,
            )
            self._put(self.topics.state, message, MessageClass.STATE, "state", replaces=True)

    def will(self, session: int) -> bytes:
        """Return the last will of a connection; its seq is 0, for nothing is numbered by it."""
        return wire.encode(
            wire.State(
                **self._stamp("", session=session), status="offline", agent=__version__, will=True
            )
        )

    def farewell(self) -> bytes:
        """Return the state message of a clean disconnect."""
        with self.journal.atomic():
            return wire.encode(
                wire.State(**self._stamp("state"), status="shutdown", agent=__version__)
            )

    def meta(
        self,
        *,
        labels: Mapping[str, str],
        environment: Mapping[str, str | int | float | None],
        models: tuple[str, ...],
    ) -> None:
        """Publish what the device is and which commands it takes."""
        with self.journal.atomic():
            message = wire.Inventory(
                **self._stamp("meta"),
                agent=__version__,
                labels=labels,
                environment=environment,
                models=models,
                commands=tuple(COMMANDS),
            )
            self._put(self.topics.meta, message, MessageClass.STATE, "meta", replaces=True)

    def releases(self, active: str | None, releases: Sequence[wire.Release]) -> None:
        """Publish which releases there are, newest first."""
        with self.journal.atomic():
            message = wire.Releases(
                **self._stamp("releases"),
                active=active,
                releases=tuple(releases[: wire.RELEASES_LIMIT]),
                total=len(releases),
            )
            self._put(self.topics.releases, message, MessageClass.STATE, "releases", replaces=True)

    def announce(self, topic: str, body: bytes) -> None:
        """Publish the discovery message for Home Assistant; an empty one removes the device there.

        One that an earlier configuration published is removed, on the topic that it had.
        """
        before = self.journal.recall(_DISCOVERY)
        if not before and not body:
            return
        with self.journal.atomic():
            if before and (before != topic or not body):
                self._retain(before, b"")
            if body:
                self._retain(topic, body)
            self.journal.remember(_DISCOVERY, topic if body else "")

    def _retain(self, topic: str, body: bytes) -> None:
        number = self.journal.next(f"seq_{_DISCOVERY}")
        self.journal.append(
            Outgoing(
                topic=topic,
                body=body,
                message_class=MessageClass.STATE,
                stream=_DISCOVERY,
                number=number,
                retain=True,
                replaces=True,
            )
        )

    def telemetry(self, figures: Mapping[str, float | int | bool | None]) -> None:
        """Publish one set of figures; it expires after an hour."""
        with self.journal.atomic():
            message = wire.Telemetry(**self._stamp("telemetry"), m=figures)
            self._put(self.topics.telemetry, message, MessageClass.TELEMETRY, "telemetry")

    def event(self, kind: str, severity: Severity, facts: Mapping[str, object]) -> None:
        """Publish an event."""
        message_class = MessageClass.INFO if severity == "info" else MessageClass.WARNING
        cut = {
            name: value[: wire.TEXT_LIMIT] if isinstance(value, str) else value
            for name, value in facts.items()
        }
        with self.journal.atomic():
            message = wire.Event(**self._stamp("event"), kind=kind, severity=severity, facts=cut)
            self._put(self.topics.event, message, message_class, "event")

    def report(self, model: str, report: Mapping[str, Any]) -> None:
        """Publish the report of a run."""
        with self.journal.atomic():
            message = wire.Report(**self._stamp("report"), model=model, report=report)
            self._put(self.topics.report(model), message, MessageClass.REPORT, "report")

    def result(
        self, command_id: str, answer: Answered, progress: wire.Progress | None = None
    ) -> None:
        """Store a command's stage and publish it, in one transaction.

        Raises:
            StoreError: "stage" if it may not follow the stored one.
        """
        with self.journal.atomic():
            version = self.journal.advance(command_id, answer)
            self._publish_result(command_id, answer, version, progress)

    def repeat(self, command_id: str) -> None:
        """Publish the last answer to a command again: the command came twice."""
        entry = self.journal.entry(command_id)
        if entry is not None:
            answer = Answered(
                stage=entry.stage, code=entry.code, detail=entry.detail, result=entry.result
            )
            with self.journal.atomic():
                self._publish_result(command_id, answer, entry.version, None)

    def refuse(self, command_id: str, answer: Answered) -> None:
        """Publish that a command is rejected, without storing it: its sender is not known."""
        with self.journal.atomic():
            self._publish_result(command_id, answer, 0, None)

    def _publish_result(
        self, command_id: str, answer: Answered, version: int, progress: wire.Progress | None
    ) -> None:
        reason = None
        if answer.code or answer.detail:
            reason = wire.Reason(code=answer.code, detail=answer.detail[: wire.TEXT_LIMIT])
        message = wire.Result(
            **self._stamp("result"),
            cmd_id=command_id,
            stage=answer.stage,
            version=version,
            progress=progress,
            reason=reason,
            result_ref=answer.result or None,
        )
        self._put(self.topics.result(command_id), message, MessageClass.RESULT, "result")

    def _put(
        self,
        topic: str,
        message: wire.Message,
        message_class: MessageClass,
        stream: str,
        *,
        replaces: bool = False,
    ) -> None:
        self.journal.append(
            Outgoing(
                topic=topic,
                body=wire.encode(message),
                message_class=message_class,
                stream=stream,
                number=message.seq,
                retain=stream in {"state", "meta", "releases", "report"},
                expiry_s=TELEMETRY_EXPIRY_S if message_class is MessageClass.TELEMETRY else 0,
                replaces=replaces,
            )
        )

    def _stamp(self, stream: str, session: int | None = None) -> dict[str, Any]:
        """Return the envelope's fields; call it in the transaction that appends the message."""
        utc = self.clock.utc()
        unix_s = datetime.fromisoformat(utc.replace("Z", "+00:00")).timestamp()
        return {
            "id": self._ulids.next(round(unix_s * 1000)),
            "dev": self.topics.device,
            "ts": utc,
            "mono_ms": self.clock.monotonic_ns() // 1_000_000,
            "boot": self.boot,
            "sess": self.session() if session is None else session,
            "seq": self.journal.next(f"seq_{stream}") if stream else 0,
            "clock_ok": self.clock_ok(),
        }
