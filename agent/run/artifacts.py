"""Records by digest: found in the store, or made by a job in a child process and stored."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from agent import config as configuration
from agent.config import Config
from agent.core.errors import StoreError
from agent.core.records import Candidate, Digest
from agent.disk import size_bytes
from agent.ports import Clock, Jobs, Store

_LOG = logging.getLogger(__name__)
RecordT = TypeVar("RecordT")
Observe = Callable[[str, int, int, str], None]
"""Called as observe(stage, done, total, note); total 0 means unknown."""

_HOURS_S = {"condition": 7200.0, "statistics": 7200.0, "quantize": 3600.0, "build": 7200.0}
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
        protected: Digests that stay even where the disk is full.
        last_note: What the last job told last, to say what a job was at that died.
    """

    config: Config
    store: Store
    jobs: Jobs
    clock: Clock
    observe: Observe
    cancelled: threading.Event
    timings_s: dict[str, float]
    protected: frozenset[str] = frozenset()
    last_note: str = ""
    _used: set[str] = field(default_factory=set)
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
            kind: Of the job, as `agent.jobs.kinds` names it.
            digest: Identity of the record.
            spec: What the job needs beside the configuration.
            result: The record's class.
            timeout_s: 0 for the usual one of this kind.

        Raises:
            QuantdError: of the job; nothing is stored then.
        """
        found = self.store.get(digest, result)
        if found is not None:
            self._used.add(digest)
            return found
        try:
            record = self._make(kind, digest, spec, result, timeout_s)
        except StoreError as error:
            if error.code != "disk_full" or not self._make_room(kind):
                raise
            record = self._make(kind, digest, spec, result, timeout_s)
        self._used.add(digest)
        return record

    def _make(
        self,
        kind: str,
        digest: Digest,
        spec: Mapping[str, object],
        result: type[RecordT],
        timeout_s: float,
    ) -> RecordT:
        with self.timed(kind), self.store.stage(digest) as work:
            try:
                record = self.job(kind, {**spec, "digest": digest, "work": work}, result, timeout_s)
                self.store.keep(digest, work, record)
            except StoreError as error:
                if error.code == "disk_full":
                    raise _told(kind, Path(work), error) from error
                raise
        return record

    def _make_room(self, kind: str) -> bool:
        """Remove everything stored that neither this run nor a release needs."""
        freed = self.store.prune(0, used=self._used | self.protected)
        _LOG.warning("disk_full stage=%s freed_mb=%.1f", kind, freed / 1e6)
        return freed > 0

    def job(
        self,
        kind: str,
        spec: Mapping[str, object],
        result: type[RecordT],
        timeout_s: float = 0.0,
    ) -> RecordT:
        """Run a job whose result is not kept; arguments and errors as for `get`."""

        def progress(done: int, total: int, note: str) -> None:
            self.last_note = note
            if kind not in _COUNTED:
                self.observe(kind, done, total, note)
            elif note:
                steps = f" ({done}/{total})" if total else ""
                index, count, candidate = self._counting
                self.observe(kind, index, count, f"{candidate}: {note}{steps}")

        self.last_note = ""
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


def _told(kind: str, work: Path, error: StoreError) -> StoreError:
    """Return the error of a full disk with what is known of the need."""
    return StoreError(
        f"{kind}: {error.message}; it needs more than the {size_bytes(work) / 1e6:.1f} MB that it "
        "had written",
        code=error.code,
        hint="free some space on this file system; what earlier runs stored and no release needs "
        "is removed when that happens, and kept below storage.max_mb otherwise",
    )
