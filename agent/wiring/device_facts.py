"""What the daemon's messages contain of this device: releases, figures, reports."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import psutil

from agent.adapters.host.conditions import temperature_c
from agent.config import Config
from agent.core.errors import StoreError
from agent.core.report.figures import at
from agent.core.report.metrics import MODEL_METRICS, model_figures, reported_row
from agent.ports import Journal
from agent.wire import messages as wire
from agent.wiring import reported, storage

_LOG = logging.getLogger(__name__)
_REPORTS_READ = 8  # of the newest, to find one on the active release
_TIME_CHARS = 18  # of a run's id
_SUCCEEDED, _CANCELED = "succeeded", "canceled"

Figures = Mapping[str, float | int | bool | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reported:
    """What the last report on a release has of it.

    Attributes:
        measured: When the report was finished, RFC 3339 in UTC; None without one.
        figures: Of the model, by their names in telemetry.
    """

    candidate: str | None = None
    measured: str | None = None
    figures: Figures = field(default_factory=lambda: dict.fromkeys(MODEL_METRICS))


@dataclass
class DeviceFacts:
    """Looks up what messages contain; a file that can't be read costs its own values only.

    Attributes:
        config: The effective configuration.
        journal: Has the runs.
    """

    config: Config
    journal: Journal
    _machine: Callable[[], Figures] = field(init=False)
    _described: dict[str, wire.Release] = field(default_factory=dict)  # without their marks
    _last: tuple[object, _Reported] = (None, _Reported())

    def __post_init__(self) -> None:
        """Begin to count the CPU time of the daemon."""
        self._machine = machine_figures(self.config)

    def active(self) -> wire.Active | None:
        """Return the release in use, None where none is."""
        releases = storage.releases(self.config)
        release = releases.current()
        if release is None:
            return None
        described, reported_on = self._description(release), self._reported(release)
        return wire.Active(
            release=release,
            model=described.model or "",
            engine_sha256=_text(at(releases.model_json(release), "engine.sha256")),
            precision=described.precision,
            candidate=described.candidate,
            measured=reported_on.measured,
        )

    def releases(self) -> Sequence[wire.Release]:
        """Return all releases, newest first."""
        try:
            marks = storage.releases(self.config).marks()
        except OSError as error:
            _LOG.warning("releases_not_read %s", error)
            return ()
        self._described = {one: self._description(one) for one in marks}
        return tuple(
            msgspec.structs.replace(
                self._described[one],
                good=mark.good,
                reason=mark.reason[: wire.SHORT_LIMIT],
                pinned=mark.pinned,
            )
            for one, mark in sorted(marks.items(), reverse=True)
        )

    def telemetry(self) -> Figures:
        """Return the figures of the moment, without the counters of the link."""
        release = storage.releases(self.config).current()
        last = self._reported(release) if release else _Reported()
        made = storage.made(release) if release else None
        measured = last.measured and datetime.fromisoformat(last.measured.replace("Z", "+00:00"))
        ended = self.journal.outcomes()
        succeeded = ended.get(_SUCCEEDED, 0)
        return {
            **last.figures,
            "report_age_s": _age_s(measured or None),
            "release_age_s": _age_s(made),
            "runs_succeeded": succeeded,
            "runs_failed": sum(ended.values()) - succeeded - ended.get(_CANCELED, 0),
            **self._machine(),
        }

    def report(self, run_id: str) -> tuple[str, Mapping[str, Any]] | None:
        """Return the model's name and the report of a run, None if it made none."""
        folder = reported.last_report(self.config, run_id)
        if folder is None:
            return None
        try:
            report = reported.read_report(folder)
            return str(report["model"]["name"]), report
        except (StoreError, KeyError, TypeError) as error:
            _LOG.error("report_not_sent run_id=%s %s", run_id, error)
            return None

    def _description(self, release: str) -> wire.Release:
        """Return a release as its model.json has it, which never changes."""
        if release in self._described:
            return self._described[release]
        facts = storage.releases(self.config).model_json(release)
        made = storage.made(release)
        return wire.Release(
            id=release,
            model=_text(facts.get("name")),
            candidate=_text(facts.get("candidate")),
            precision=_text(facts.get("precision")),
            made=f"{made:%Y-%m-%dT%H:%M:%S}Z" if made else None,
        )

    def _reported(self, release: str) -> _Reported:
        """Return what the newest report on a release has of it; reads files when there is another."""
        newest = next(self._finished_runs(), None)
        if self._last[0] != (release, newest):
            self._last = (release, newest), self._read(release)
        return self._last[1]

    def _read(self, release: str) -> _Reported:
        for count, name in enumerate(self._finished_runs()):
            if count >= _REPORTS_READ or name < release[:_TIME_CHARS]:
                break
            try:
                report = reported.read_report(reported.run_folder(self.config, name))
            except StoreError as error:
                _LOG.warning("report_not_read run_id=%s %s", name, error)
                continue
            done = at(report, "activation.state"), at(report, "activation.release")
            if done in {("active", release), ("unchanged", release)}:
                return _found(report, _text(at(report, "choice.candidate")))
        releases = storage.releases(self.config)
        candidate = _text(releases.model_json(release).get("candidate"))
        return _found(releases.report(release), candidate)

    def _finished_runs(self) -> Iterator[str]:
        """Yield the ids of runs that have a report, newest first."""
        folder = Path(self.config.storage.dir, "runs")
        try:
            names = sorted((path.name for path in folder.iterdir()), reverse=True)
        except OSError:
            return
        yield from (name for name in names if (folder / name / "report.json").exists())


def _found(report: Mapping[str, Any], candidate: str | None) -> _Reported:
    row = reported_row(report, candidate or "")
    found = _Reported(candidate=candidate, figures=model_figures(row))
    try:
        return replace(found, measured=msgspec.convert(report.get("finished"), wire.Time))
    except msgspec.ValidationError:
        return found


def _text(found: object) -> str | None:
    return found[: wire.SHORT_LIMIT] if isinstance(found, str) and found else None


def _age_s(moment: datetime | None) -> int | None:
    """Return how long ago a moment was; None where the clock is behind it."""
    if moment is None:
        return None
    age_s = round((datetime.now(timezone.utc) - moment).total_seconds())
    return age_s if age_s >= 0 else None


def machine_figures(config: Config) -> Callable[[], Figures]:
    """Return what reads the figures of the daemon's process and of the machine."""
    process = psutil.Process()
    process.cpu_percent()  # the first call only sets the point of reference
    sources: dict[str, Callable[[], float | int | None]] = {
        "rss_mb": lambda: round(process.memory_info().rss / 1e6, 1),
        "cpu_percent": process.cpu_percent,
        "uptime_s": lambda: round(time.monotonic()),
        "memory_free_mb": lambda: round(psutil.virtual_memory().available / 1e6),
        "disk_free_mb": lambda: round(psutil.disk_usage(config.storage.dir).free / 1e6),
        "temp_c": temperature_c,
    }

    unread: set[str] = set()

    def reading(name: str) -> float | int | None:
        try:
            value = sources[name]()
        except (OSError, ValueError, RuntimeError, psutil.Error) as error:
            if name not in unread:
                _LOG.warning("figure_not_read name=%s %s", name, error)
            unread.add(name)
            return None
        unread.discard(name)
        return value

    return lambda: {name: reading(name) for name in sources}
