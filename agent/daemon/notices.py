"""What the link drops, refuses or loses: a counter, a line in the log and an event for each kind.

Much of it can be caused by others, again and again. Lines and events are limited, so that they
fill neither the journal nor the log; the counters, sent with each telemetry, count all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.core.control.token_bucket import TokenBucket
from agent.ports import Clock

_LOG = logging.getLogger(__name__)
_TEXT_LIMIT = 200

_COUNTERS = {
    "broker_silent": "broker_silences",
    "certificate_refused": "certificates_refused",
    "command_misaddressed": "commands_misaddressed",
    "credentials_unusable": "credentials_unusable",
    "message_parked": "messages_parked",
    "outbox_evicted": "messages_evicted",
    "packet_refused": "packets_refused",
    "refusal_unanswered": "refusals_unanswered",
    "session_taken_over": "sessions_taken_over",
    "subscription_refused": "subscriptions_refused",
}


@dataclass
class _Limit:
    tokens: TokenBucket = field(default_factory=lambda: TokenBucket(burst=20, per_s=1 / 60))
    suppressed: int = 0


@dataclass
class Notices:
    """Counts and announces, each kind at most 20 times at once, then once a minute.

    Attributes:
        announce: Publishes an event, called as announce(kind, facts).
        clock: For the limit.
        counts: How many there were since the start, by the names in telemetry.
    """

    announce: Callable[[str, Mapping[str, object]], None]
    clock: Clock
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTERS.values(), 0))
    _limits: dict[str, _Limit] = field(default_factory=lambda: {k: _Limit() for k in _COUNTERS})

    def note(self, kind: str, facts: Mapping[str, object], *, quiet: bool = False) -> None:
        """Count one kind of event, n of them if the facts contain `n`; log and announce it.

        Args:
            kind: One of the kinds that have a counter.
            facts: What the event contains; texts are cut.
            quiet: Count it only.
        """
        count = facts.get("n", 1)
        self.counts[_COUNTERS[kind]] += count if isinstance(count, int) else 1
        if quiet:
            return
        limit = self._limits[kind]
        if not limit.tokens.take(self.clock.monotonic_ns()):
            limit.suppressed += 1
            return
        short = {k: v[:_TEXT_LIMIT] if isinstance(v, str) else v for k, v in facts.items()}
        if limit.suppressed:
            short["suppressed"] = limit.suppressed
            limit.suppressed = 0
        _LOG.warning("%s %s", kind, " ".join(f"{name}={value!r}" for name, value in short.items()))
        self.announce(kind, short)
