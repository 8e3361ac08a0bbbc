"""Records by digest: found in the store, or made by a job in a child process and stored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from agent import config as configuration
from agent.config import Config
from agent.core.lineage import Candidate, Digest
from agent.ports import Clock, Jobs, Store

RecordT = TypeVar("RecordT")
Observe = Callable[[str, int, int, str], None]
"""Called as observe(stage, done, total, note); total 0 means unknown."""

_HOURS_S = {"statistics": 7200.0, "quantize": 3600.0, "build": 7200.0}
_QUICK_S = 900.0
_COUNTED = frozenset({"quantize", "build", "evaluate"})  # progress counts candidates


@dataclass(kw_only=True)
class Artifacts:
    """What a run finds or makes.

    Attributes:
        config: The effective configuration, which every job gets.
        observe: Told of progress, from the calling thread.
        cancelled: Set from outside to end a job within seconds.
        timings_s: Seconds spent by stage so far; it is filled.
    """

    config: Config
    store: Store
    jobs: Jobs
    clock: Clock
    observe: Observe
    cancelled: threading.Event
    timings_s: dict[str, float]
    _counting: tuple[int, int, str] = (0, 0, "")

    def get(
        self,
        kind: str,
        digest: Digest,
        spec: Mapping[str, object],
        result: type[RecordT],
        timeout_s: float = 0.0,
    ) -> RecordT:
        """Return the stored record, or run the job and store what it made.

        Args:
            kind: Of the job, as `agent.job` names it.
            digest: Identity of the record.
            spec: What the job needs beside the configuration.
            result: The record's class.
            timeout_s: 0 for the usual one of this kind.

        Raises:
            QuantdError: of the job; nothing is stored then.
        """
        found = self.store.get(digest, result)
        if found is not None:
            return found
        with self.timed(kind), self.store.stage(digest) as work:
            record = self.job(kind, {**spec, "digest": digest, "work": work}, result, timeout_s)
            self.store.keep(digest, work, record)
        return record

    def job(
        self,
        kind: str,
        spec: Mapping[str, object],
        result: type[RecordT],
        timeout_s: float = 0.0,
    ) -> RecordT:
        """Run a job whose result is not kept; arguments and errors as for `get`."""

        def progress(done: int, total: int, note: str) -> None:
            if kind not in _COUNTED:
                self.observe(kind, done, total, note)
            elif note:
                steps = f" ({done}/{total})" if total else ""
                index, count, candidate = self._counting
                self.observe(kind, index, count, f"{candidate}: {note}{steps}")

        return self.jobs.run(
            kind,
            {"config": configuration.dump(self.config), **spec},
            result,
            progress=progress,
            cancelled=self.cancelled,
            timeout_s=timeout_s or _HOURS_S.get(kind, _QUICK_S),
        )

    def counted(self, stage: str, found: Sequence[Candidate]) -> Iterator[Candidate]:
        """Yield candidates one by one and tell how far the stage is."""
        for index, candidate in enumerate(found):
            self._counting = index, len(found), candidate.id
            self.observe(stage, *self._counting)
            yield candidate
        self.observe(stage, len(found), len(found), "")

    @contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        """Add what is spent inside to the stage's time."""
        begin = self.clock.monotonic_ns()
        try:
            yield
        finally:
            spent_s = (self.clock.monotonic_ns() - begin) / 1e9
            self.timings_s[kind] = round(self.timings_s.get(kind, 0.0) + spent_s, 3)
