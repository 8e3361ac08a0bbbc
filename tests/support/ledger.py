"""The ledger of a device's messages: what is missing, out of order or done twice.

A stream's numbers have no holes but for what was announced as given up. State and meta replace
their unsent forerunners, so only their order counts. A message may come again with the same id,
as often as links were lost.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

STREAMS = ("event", "report", "result", "telemetry")  # in which a hole is a loss
FINAL = {"REJECTED", "SUCCEEDED", "FAILED", "TIMED_OUT", "CANCELED", "ROLLED_BACK"}


class Head(msgspec.Struct, frozen=True):
    """What the ledger reads of a message."""

    id: str
    seq: int
    kind: str = ""
    facts: dict[str, Any] = msgspec.field(default_factory=dict)
    cmd_id: str = ""
    stage: str = ""
    version: int = 0
    reason: Any = None


_READ = msgspec.json.Decoder(Head)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What is wrong; all empty is a link that keeps its promise.

    Attributes:
        lost: Numbers that never came and were not announced, by stream.
        disordered: (stream, number) of first arrivals after a greater one.
        changed: (stream, number) that came with two ids or two bodies.
    """

    lost: Mapping[str, list[int]]
    disordered: list[tuple[str, int]]
    changed: list[tuple[str, int]]

    @property
    def none(self) -> bool:
        return not (self.lost or self.disordered or self.changed)


@dataclass
class Ledger:
    """Notes every message of one device; any thread may call `note`.

    Attributes:
        base: `<root>/v1/<device>`.
        messages: How many were noted, repeats included.
        repeated: How many of them had come before.
    """

    base: str
    messages: int = 0
    repeated: int = 0
    answers: dict[str, list[Head]] = field(default_factory=lambda: defaultdict(list))
    events: list[Head] = field(default_factory=list)
    _seen: dict[str, dict[int, tuple[str, int]]] = field(default_factory=lambda: defaultdict(dict))
    _last: dict[str, int] = field(default_factory=dict)
    _disordered: list[tuple[str, int]] = field(default_factory=list)
    _changed: list[tuple[str, int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, topic: str, body: bytes) -> Head | None:
        """Note a message; return its head, None if it belongs to no stream of the device."""
        stream = self._stream(topic)
        if stream == "cmd" or not topic.startswith(self.base):
            return None
        head = _READ.decode(body)
        if not head.seq:  # the last will: nothing numbers it
            return head
        mark = (head.id, hash(body))
        with self._lock:
            self.messages += 1
            known = self._seen[stream].setdefault(head.seq, mark)
            if known != mark:
                self._changed.append((stream, head.seq))
            if head.seq <= self.last(stream):
                again = known is not mark
                self.repeated += again
                if not again:
                    self._disordered.append((stream, head.seq))
                return head
            self._last[stream] = head.seq
            if stream == "result":
                self.answers[head.cmd_id].append(head)
            elif stream == "event":
                self.events.append(head)
        return head

    def has(self, stream: str, number: int) -> bool:
        """Return whether a message was noted."""
        return number in self._seen[stream]

    def last(self, stream: str) -> int:
        """Return the greatest number of a stream so far, 0 before the first."""
        return self._last.get(stream, 0)

    def findings(self, ends: Mapping[str, int] | None = None) -> Findings:
        """Return what is wrong so far.

        Args:
            ends: The last number of each stream, from the device's journal, once all is quiet;
                without them what is missing at the end is not seen.
        """
        with self._lock:
            lost: dict[str, list[int]] = {}
            for stream in STREAMS:
                last = (ends or {}).get(stream, self.last(stream))
                missing = {n for n in range(1, last + 1) if n not in self._seen[stream]}
                missing -= self._announced(stream)
                if missing:
                    lost[stream] = sorted(missing)
            return Findings(lost=lost, disordered=[*self._disordered], changed=[*self._changed])

    def ended(self, command_id: str) -> str:
        """Return a command's final stage, empty if none came."""
        stages = [head.stage for head in list(self.answers[command_id]) if head.stage in FINAL]
        return stages[-1] if stages else ""

    def run_twice(self) -> list[str]:
        """Return commands that went on after their end, and runs that ended or began too often."""
        found = []
        for command_id, heads in list(self.answers.items()):
            ends = {head.version for head in heads if head.stage in FINAL and head.version}
            later = [head for head in heads if ends and head.version > min(ends)]
            if len(ends) > 1 or later:
                found.append(command_id)
        ended: Counter[str] = Counter()
        for head in list(self.events):
            run = str(head.facts.get("run_id", ""))
            if head.kind.endswith("_ended"):
                ended[run] += 1
            elif head.kind.endswith("_started") and ended[run]:
                found.append(run)
        return found + [run for run, count in ended.items() if count > 1]

    def _announced(self, stream: str) -> set[int]:
        found: set[int] = set()
        for head in self.events:
            facts = head.facts
            if head.kind == "outbox_evicted" and facts.get("stream") == stream:
                found |= set(range(facts["seq_from"], facts["seq_to"] + 1))
            elif head.kind == "message_parked" and self._stream(str(facts["topic"])) == stream:
                found.add(facts["seq"])
        return found

    def _stream(self, topic: str) -> str:
        first = topic.removeprefix(self.base + "/").partition("/")[0]
        return "result" if first == "res" else first
