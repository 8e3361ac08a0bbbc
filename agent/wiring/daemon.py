"""The daemon with its adapters. Light: nothing here or below loads numpy or a runtime."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

from agent.adapters.host.clock import SystemClock, boot_id
from agent.adapters.host.notifier import SystemdNotifier
from agent.adapters.mqtt.link import MqttLink
from agent.adapters.mqtt.signatures import JwsSignatures
from agent.adapters.storage.journal import SqliteJournal
from agent.config import Config, without_effect
from agent.core.control.events import Outdated, Work
from agent.core.control.requests import Expect, Optimize, RollBack
from agent.core.errors import QuantdError, StoreError
from agent.daemon.cached_lookup import CachedLookup
from agent.daemon.calendar import Calendar
from agent.daemon.inbox import Inbox
from agent.daemon.inspector import Inspector
from agent.daemon.loop import Daemon, Outward
from agent.daemon.mailbox import Mailbox
from agent.daemon.messages import Messages
from agent.daemon.notices import Notices
from agent.daemon.outbox import Outbox
from agent.daemon.outward import Broker, Facts
from agent.daemon.worker import Worker
from agent.ports import Journal, Notifier
from agent.run.upgrade import UnfitRelease
from agent.wire.home_assistant import discovery, discovery_topic
from agent.wire.topics import Topics
from agent.wiring import released, storage
from agent.wiring.boards import environment
from agent.wiring.device_facts import DeviceFacts
from agent.wiring.exclusive import exclusive
from agent.wiring.work import perform, settled

_LOG = logging.getLogger(__name__)
_RETRY_S = 1.0
_LOOKUP_S = 3.0  # the watchdog waits for 30


def daemon(config: Config, origin: Mapping[str, str] | None = None) -> Daemon:
    """Return the daemon of a configuration, ready to run; warn of set keys without effect.

    Args:
        config: The effective configuration.
        origin: Source of each value that is no default, by its dotted key.
    """
    origin = origin or {}
    for key in without_effect(config, origin):
        _LOG.warning("setting_without_effect key=%s", key)
    mailbox = Mailbox()
    clock, notifier = SystemClock(), SystemdNotifier()
    journal = _journal(config, notifier)
    if journal.recreated_from:
        _LOG.error("journal_renewed damaged file set aside as %s", journal.recreated_from)
    storage.protect(config)
    ids = storage.RunIds(config)
    stopping = threading.Event()

    def inspect(cancelled: threading.Event) -> Outdated | None:
        found = released.inspect(config, cancelled)
        return _outdated(found, ids.next) if found else None

    return Daemon(
        mailbox=mailbox,
        journal=journal,
        outward=_outward(config, journal, mailbox, clock) if config.mqtt.host else Outward(),
        worker=Worker(
            partial(perform, config, journal, stopping, origin=origin), mailbox.put, clock
        ),
        inspector=Inspector(inspect, mailbox.put),
        notifier=notifier,
        clock=clock,
        due=Calendar(config.schedule.reoptimize, config.schedule.window, datetime.now).due,
        recover=lambda: _recover(config, stopping),
        stopping=stopping,
        new_id=ids.next,
        active=lambda: storage.releases(config).current(),
        settled=partial(settled, config),
    )


def _journal(config: Config, notifier: Notifier) -> SqliteJournal:
    """Open the journal; wait while the disk is full, read-only or the file locked.

    Raises:
        StoreError: for any other reason.
    """
    seen = ""
    while True:
        try:
            return storage.journal(config)
        except StoreError as error:
            if not error.passing:
                raise
            if error.code != seen:
                _LOG.error("journal_waits code=%s %s", error.code, error)
            seen = error.code
            notifier.alive(f"waiting: {error.message}")
            time.sleep(_RETRY_S)


def _outward(config: Config, journal: Journal, mailbox: Mailbox, clock: SystemClock) -> Outward:
    topics = Topics(config.mqtt.root, config.device.id)
    link: MqttLink
    messages = Messages(
        topics,
        journal,
        clock,
        boot=boot_id(),
        session=lambda: link.session,
        clock_ok=clock.synchronized,
    )
    link = MqttLink(
        config.mqtt,
        topics,
        post=mailbox.put,
        next_session=lambda: journal.next("session"),
        will=messages.will,
        crowded=lambda: mailbox.full,
        session=_last_session(journal),
    )

    def announce(kind: str, facts: Mapping[str, object]) -> None:
        messages.event(kind, "warning", facts)

    notices = Notices(announce, clock)
    facts = DeviceFacts(config, journal)
    return Broker(
        link=link,
        topics=topics,
        journal=journal,
        messages=messages,
        inbox=Inbox(
            topics,
            journal,
            messages,
            signatures=JwsSignatures(config.commands.keys_dir),
            require_signature=config.commands.require_signature,
            max_exp_s=config.commands.max_exp_s,
            limits={} if config.commands.may_loosen_limits else config.requirements.limits,
            clock=clock,
            clock_ok=clock.synchronized,
            note=notices.note,
        ),
        outbox=Outbox(journal, link, clock, notices.note),
        facts=Facts(
            labels=config.device.labels,
            model=config.model.name,
            active=facts.active,
            releases=facts.releases,
            telemetry=facts.telemetry,
            environment=CachedLookup(lambda: environment(config), _LOOKUP_S),
            report=facts.report,
            discovery=(
                discovery_topic(config.device.id),
                discovery(topics, config.model.name) if config.mqtt.home_assistant else b"",
            ),
        ),
        clock=clock,
        notices=notices,
    )


def _last_session(journal: Journal) -> int:
    try:
        return journal.last("session")
    except StoreError:  # the loop finds out, and waits for it
        return 0


def _outdated(found: UnfitRelease, new_id: Callable[[], str]) -> Outdated:
    """Return the event and the work for an active release that no longer fits or loads."""
    works = []
    trigger = "upgrade" if found.changes else "repair"
    if found.roll_back:
        # A rollback that runs meanwhile, or was taken up, has left that release already.
        back = RollBack(expect=Expect(release=found.release))
        works.append(Work(task=back, run_id=new_id(), trigger=trigger))
    if found.plan == "rebuild":
        rebuild = Optimize(reuse_calibration=found.reuse, replaces=found.release)
        works.append(Work(task=rebuild, run_id=new_id(), trigger=trigger))
    facts = {
        "release": found.release,
        "changes": found.changes,
        "loads": not found.trouble,
        "trouble": found.trouble,
        "plan": found.plan,
        "attempt": found.attempt,
        "frames": found.frames,
    }
    kind = "release_outdated" if found.changes else "release_unusable"
    _LOG.warning("%s %s", kind, " ".join(f"{name}={value}" for name, value in facts.items()))
    lost = bool(found.trouble) or found.plan == "give_up"
    return Outdated(
        kind=kind, severity="error" if lost else "warning", facts=facts, works=tuple(works)
    )


def _recover(config: Config, stopping: threading.Event) -> None:
    """Recover at the start, unless another process is at work: what it began, it also ends.

    Raises:
        StoreError: if the disk does not allow it.
    """
    try:
        with exclusive(config, "quantd run", cancelled=stopping, stopping=stopping, wait=False):
            pass
    except QuantdError as error:  # each piece of work recovers first
        if isinstance(error, StoreError) and error.code != "locked":
            raise
        _LOG.warning("recovery_put_off code=%s %s", error.code, error.message)
