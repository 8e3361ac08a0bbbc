"""Heavy work in child processes, and what a job is asked for."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from agent.core.records import Engine
from agent.ports.types import Progress, RecordT


class Jobs(Protocol):
    """Runs one piece of heavy work in a child process."""

    def run(
        self,
        kind: str,
        spec: Mapping[str, object],
        result: type[RecordT],
        *,
        progress: Progress,
        cancelled: threading.Event,
        timeout_s: float,
    ) -> RecordT:
        """Run the job and return its result record.

        Args:
            kind: As `agent.jobs.kinds` names it.
            spec: What it needs.
            result: The record's class.
            progress: Told what the job tells.
            cancelled: Set from outside to end it.
            timeout_s: In which it must be finished; when measuring, the longest that it may say
                nothing.

        Raises:
            JobError: "canceled", "timed_out", or "died" with the signal and memory seen.
            QuantdError: whatever the job itself raised, with its class and code.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """What is measured together.

    Attributes:
        engines: By candidate id.
        power_mode: To measure in; None for the present one.
        baselines: Candidates that a fast search measures long enough to compare with.
        spares: Candidates that a fast search needs only while another is disturbed: that other.
        seed: For the order.
        fast: False to measure everybody to the end.
    """

    engines: Mapping[str, Engine]
    power_mode: str | None
    baselines: tuple[str, ...]
    spares: Mapping[str, str]
    seed: int
    fast: bool = False
