"""Child processes that answer at once, or fail as a test requires."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agent.core.errors import JobError
from agent.ports import Progress, RecordT
from agent.ports.jobs import JobSpec

Answer = Callable[[Any], object]


@dataclass
class FakeJobs:
    """Implements `ports.Jobs`; an answer that is an exception is raised.

    Attributes:
        answers: Returns a result for a spec, by kind.
        reports: What a job reports of its progress (note, candidate), by kind.
        asked: Every job so far: its kind and its spec.
    """

    answers: dict[str, Answer]
    reports: dict[str, tuple[str, str]] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def run(
        self, spec: JobSpec[RecordT], *, progress: Progress, cancelled: threading.Event
    ) -> RecordT:
        self.asked.append((spec.kind, spec))
        if cancelled.is_set():
            raise JobError(f"{spec.kind}: canceled", code="canceled")
        answer = self.answers[spec.kind](spec)
        progress(1, 2, *self.reports.get(spec.kind, ("half-way", "")))
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, spec.result())
        return answer

    @property
    def counts(self) -> Counter[str]:
        """Return how often each kind was run."""
        return Counter(kind for kind, _ in self.asked)
