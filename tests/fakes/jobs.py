"""Child processes that answer at once, or fail as a test requires."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

RecordT = TypeVar("RecordT")
Answer = Callable[[Mapping[str, Any]], object]


@dataclass
class FakeJobs:
    """Implements `ports.Jobs`; an answer that is an exception is raised.

    Attributes:
        notes: The progress that a job reports, by kind.
    """

    answers: dict[str, Answer]
    notes: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def run(
        self,
        kind: str,
        spec: Mapping[str, object],
        result: type[RecordT],
        *,
        progress: Callable[[int, int, str], None],
        cancelled: threading.Event,
        timeout_s: float,
    ) -> RecordT:
        self.asked.append((kind, spec))
        answer = self.answers[kind](spec)
        progress(1, 2, self.notes.get(kind, "half-way"))
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, result)
        return answer

    @property
    def counts(self) -> Counter[str]:
        """Return how often each kind was run."""
        return Counter(kind for kind, _ in self.asked)
