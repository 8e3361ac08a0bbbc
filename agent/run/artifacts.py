"""Records by digest: found in the store, or made by a job in a child process and stored."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from agent.core.errors import QuantdError, StoreError
from agent.core.records import Candidate
from agent.disk import size_bytes
from agent.ports import Clock, Jobs, RecordT, Store
from agent.ports.jobs import JobSpec
from agent.wire.job_spec import RecordSpec

_LOG = logging.getLogger(__name__)
Observe = Callable[[str, int, int, str], None]
"""Called as observe(stage, done, total, note); total 0 means unknown."""


@dataclass(kw_only=True)
class Artifacts:
    """Finds the records of a run in its store, or makes them.

    Attributes:
        observe: Called with progress, from the calling thread.
        cancelled: Set from outside to end a job within seconds.
        timings_s: Seconds spent by stage so far; it is filled.
        protected: Digests that are kept even if the disk is full.
        candidate: Id of the candidate in the last job's last report of progress, else "".
    """

    store: Store
    jobs: Jobs
    clock: Clock
    observe: Observe
    cancelled: threading.Event
    timings_s: dict[str, float]
    protected: frozenset[str] = frozenset()
    candidate: str = ""
    _used: set[str] = field(default_factory=set)
    _failed: dict[str, QuantdError] = field(default_factory=dict)
    _counting: tuple[int, int, str] = (0, 0, "")

    def get(self, spec: RecordSpec[RecordT]) -> RecordT:
        """Return the stored record, or run the job and store what it made.

        Raises:
            QuantdError: of the job; nothing is stored then, and the same error is raised when the
                record is asked for again in this run.
        """
        if spec.digest in self._failed:
            raise self._failed[spec.digest]
        record = self.store.get(spec.digest, spec.result())
        try:
            record = record or self._made(spec)
        except QuantdError as error:
            self._failed[spec.digest] = error
            raise
        self._used.add(spec.digest)
        return record

    def _made(self, spec: RecordSpec[RecordT]) -> RecordT:
        """Make a record; if the disk is full, once more after others were removed."""
        try:
            return self._make(spec)
        except StoreError as error:
            if error.code != "disk_full" or not self._make_room(spec.kind):
                raise
            return self._make(spec)

    def _make(self, spec: RecordSpec[RecordT]) -> RecordT:
        with self.timed(spec.kind), self.store.stage(spec.digest) as work:
            try:
                record = self.run(replace(spec, work=work))
                self.store.keep(spec.digest, work, record)
            except StoreError as error:
                if error.code == "disk_full":
                    raise _with_need(spec.kind, Path(work), error) from error
                raise
        return record

    def _make_room(self, kind: str) -> bool:
        """Remove all records that neither this run nor a release needs; return whether any was."""
        freed = self.store.prune(0, used=self._used | self.protected)
        _LOG.warning("disk_full stage=%s freed_mb=%.1f", kind, freed / 1e6)
        return freed > 0

    def run(self, spec: JobSpec[RecordT]) -> RecordT:
        """Run a job and return its result, which is not stored; errors as for `get`."""
        kind = spec.kind

        def progress(done: int, total: int, note: str, candidate: str = "") -> None:
            self.candidate = candidate
            if not spec.per_candidate:
                self.observe(kind, done, total, note)
            elif note:
                steps = f" ({done}/{total})" if total else ""
                index, count, counted = self._counting
                self.observe(kind, index, count, f"{counted}: {note}{steps}")

        self.candidate = ""
        return self.jobs.run(spec, progress=progress, cancelled=self.cancelled)

    def counted(self, stage: str, found: Sequence[Candidate]) -> Iterator[Candidate]:
        """Yield candidates one by one, with a report of progress before each."""
        for index, candidate in enumerate(found):
            self._counting = index, len(found), candidate.id
            self.observe(stage, *self._counting)
            yield candidate
        self.observe(stage, len(found), len(found), "")

    @contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        """Add the time spent inside to that of the stage."""
        begin = self.clock.monotonic_ns()
        try:
            yield
        finally:
            spent_s = (self.clock.monotonic_ns() - begin) / 1e9
            self.timings_s[kind] = round(self.timings_s.get(kind, 0.0) + spent_s, 3)


def _with_need(kind: str, work: Path, error: StoreError) -> StoreError:
    """Return the error of a full disk with the size that was written so far."""
    return StoreError(
        f"{kind}: {error.message}; it needs more than the {size_bytes(work) / 1e6:.1f} MB that it "
        "had written",
        code=error.code,
        hint="free some space on this file system; what earlier runs stored and no release needs "
        "is removed when that happens, and kept below storage.max_mb otherwise",
    )
