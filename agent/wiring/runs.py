"""Whole runs, in the foreground and in the daemon."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.adapters.host.clock import SystemClock
from agent.adapters.host.commands import run_command
from agent.adapters.host.jobs import SubprocessJobs
from agent.config import Config
from agent.core.errors import CalibrationError, StoreError
from agent.core.release.reuse import ReusedCalibration, digest_field
from agent.disk import PRIVATE, READABLE, make_folder, write_atomically
from agent.run.artifacts import Observe
from agent.run.chain import Chain
from agent.run.pipeline import Ports, Request
from agent.run.pipeline import optimize as run_pipeline
from agent.wiring import storage
from agent.wiring.expected import expected_time
from agent.wiring.reported import read_report, reports, run_folder

if TYPE_CHECKING:
    from agent.core.prediction.history import PastMeasurement
    from agent.core.prediction.run_time import RunTime
    from agent.core.report.document import Report

_HISTORY = 1000
_RUNS_KEPT = 50
_MANUAL = "manual-run"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A run that reached its end.

    Attributes:
        directory: Folder of report.json and report.html.
        release: Folder of the release that it made current, None if it made none.
    """

    report: Report
    directory: Path
    release: Path | None

    def export(self, target: Path) -> None:
        """Copy the reports and, if one was made, the release's files to another folder."""
        make_folder(target)
        sources = [*self.directory.glob("report.*")]
        if self.release is not None:
            sources += [
                p for p in self.release.iterdir() if not p.name.startswith(("report.", "."))
            ]
        for source in sources:
            mode = PRIVATE if source.name.startswith("report.") else READABLE
            write_atomically(target / source.name, source.read_bytes(), mode=mode)


def chain(
    config: Config,
    run_id: str,
    observe: Observe,
    cancelled: threading.Event,
    announce: Callable[[RunTime], None] = lambda _: None,
) -> Chain:
    """Return the stages of one run, up to the measurements; in `exclusive`."""
    return Chain(
        config=config,
        run_id=run_id,
        store=storage.store(config),
        jobs=SubprocessJobs(),
        clock=SystemClock(),
        history=history(config),
        observe=observe,
        cancelled=cancelled,
        planned=lambda model, found: announce(expected_time(config, model, found)),
    )


def manual_run(config: Config, *, new: bool) -> str:
    """Return the id of the run that single verbs work on, in `exclusive`; with `new`, begin one."""
    note = Path(config.storage.dir, _MANUAL)
    if not new and note.is_file():
        return note.read_text().strip()
    run_id = storage.RunIds(config).next()
    write_atomically(note, run_id.encode(), mode=READABLE)
    return run_id


def history(config: Config) -> tuple[PastMeasurement, ...]:
    """Return the newest measurements of this device's earlier runs."""
    with storage.journal(config) as journal:
        return tuple(journal.history(_HISTORY))


def optimize(
    config: Config,
    *,
    origin: Mapping[str, str],
    trigger: str,
    observe: Observe,
    warn: Callable[[str], None],
    cancelled: threading.Event,
    run_id: str = "",
    reuse_calibration: bool | str = False,
    again: bool = False,
    announce: Callable[[RunTime], None] = lambda _: None,
) -> Finished:
    """Do one whole run, in `exclusive`; see `run.pipeline.optimize`.

    Args:
        config: The effective configuration.
        origin: Source of each value that is no default, by its dotted key, for the report.
        trigger: The reason for the run, for the report.
        observe: Called with progress.
        warn: Called with a sentence on what is doubtful before the search begins.
        cancelled: Set from outside to end the run.
        run_id: The run to resume; empty for a new one.
        reuse_calibration: True to reuse the frames of the active release, or the id of the
            release whose frames to reuse.
        again: Whether its switch is done again if it was refused or undone later, or the choice is
            another one now: a person asked.
        announce: Called with what the run is expected to take, before anything that takes long.

    Raises:
        CalibrationError: "nothing_to_reuse" if there is no such release, or its frames are unknown.
    """
    clock = SystemClock()
    run_id = run_id or storage.RunIds(config).next()
    store = storage.store(config)
    storage.protect(config)
    _prune(config)  # artifacts of failed runs
    request = Request(
        run_id=run_id,
        trigger=trigger,
        started=clock.utc(),
        reused=_reused_calibration(config, run_id, reuse_calibration),
        origin=origin,
        again=again,
    )
    ports = Ports(
        store=store,
        jobs=SubprocessJobs(),
        clock=clock,
        releases=storage.releases(config),
        run_command=run_command,
        write=lambda run, name, body: write_atomically(run_folder(config, run) / name, body),
        history=lambda: history(config),
        remember=lambda measured: _remember(config, measured),
        warn=warn,
        planned=lambda model, found: announce(
            expected_time(config, model, found, reused=bool(reuse_calibration))
        ),
    )
    try:
        report = run_pipeline(config, request, ports, observe, cancelled)
    finally:
        _tidy(config)
    current = storage.releases(config).current()
    release = report.activation.release
    return Finished(
        report=report,
        directory=run_folder(config, run_id),
        release=Path(config.storage.dir, "releases", release)
        if release and release == current
        else None,
    )


def _reused_calibration(config: Config, run_id: str, reuse: bool | str) -> ReusedCalibration:
    """Return what a run reuses: a release's frames, or the statistics so far.

    The statistics are those of the last run before this one that made a report, so a resumed
    run reuses the same, whichever release is active.
    """
    if not reuse:
        return (
            _statistics_so_far(config, run_id) if config.calibration.extend else ReusedCalibration()
        )
    releases = storage.releases(config)
    release = reuse if isinstance(reuse, str) else releases.current()
    lineage = releases.model_json(release).get("lineage") if release else None
    calibration = digest_field(lineage, "calibration")
    if calibration is None:
        raise CalibrationError(
            "no calibration frames to reuse: "
            + (f"release {release} names none" if release else "nothing is active"),
            code="nothing_to_reuse",
            hint="capture: run once without --reuse-calibration (reuse_calibration)",
        )
    return ReusedCalibration(
        calibration=calibration,
        conditioned=digest_field(lineage, "conditioned"),
        statistics=digest_field(lineage, "extends"),
    )


def _statistics_so_far(config: Config, before: str = "") -> ReusedCalibration:
    """Return the newest statistics named in a report, of runs before the one given."""
    for folder in reversed(reports(config)):
        if before and folder.name >= before:
            continue
        try:
            calibration = read_report(folder).get("calibration")
        except StoreError:
            continue
        statistics = digest_field(calibration, "statistics")
        if statistics:
            return ReusedCalibration(
                conditioned=digest_field(calibration, "conditioned"), statistics=statistics
            )
    return ReusedCalibration()


def _remember(config: Config, measured: Sequence[PastMeasurement]) -> None:
    with storage.journal(config) as journal, journal.atomic():
        for measurement in measured:
            journal.record(measurement)


def _tidy(config: Config) -> None:
    """Prune the store to storage.max_mb, remove images where only statistics are kept, old runs.

    What the releases were made from is kept: after an upgrade of the runtime their engines are
    rebuilt from it. Images of a failed or cancelled run are removed too; if it is resumed, it
    captures again.
    """
    if config.calibration.keep == "stats":
        for frames in Path(config.storage.dir, "artifacts").glob("*/frames"):
            shutil.rmtree(frames.parent, ignore_errors=True)
    _prune(config)
    runs = sorted(Path(config.storage.dir, "runs").glob("*"))
    for old in runs[:-_RUNS_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _prune(config: Config) -> None:
    used = storage.releases(config).lineage() | _statistics_so_far(config).digests
    storage.store(config).prune(config.storage.max_mb * 1_000_000, used=used)
