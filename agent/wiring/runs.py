"""Whole runs, in the foreground and in the daemon, and what can be seen of past ones."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from agent import config as configuration
from agent.adapters.clock_system import SystemClock
from agent.adapters.commands_subprocess import run_command
from agent.adapters.jobs_subprocess import SubprocessJobs
from agent.config import Config
from agent.core.basis import Basis, stated
from agent.core.errors import ActivationError, CalibrationError, PowerError, StoreError
from agent.core.lineage import Activation, CalibrationSet, Platform
from agent.disk import write_atomically
from agent.stages import activate as activation
from agent.stages import upgrade
from agent.stages.artifacts import Observe
from agent.stages.chain import Chain
from agent.stages.pipeline import Ports, Request
from agent.stages.pipeline import optimize as run_pipeline
from agent.wiring import places
from agent.wiring.boards import power_modes

if TYPE_CHECKING:
    from agent.core.journal import PastMeasurement
    from agent.core.report import Report

_CHECK_TIMEOUT_S = 120.0
_HISTORY = 1000
_LOG = logging.getLogger(__name__)
_RUNS_KEPT = 50
_MANUAL = "manual-run"
_REBUILDS = "rebuilds.json"
_REBUILDS_KEPT = 32
_AGAIN = "the file is damaged; `quantd optimize -c ...` makes a new one"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A run that came to its end: the report as it was written, and where it lies."""

    report: dict[str, Any]
    directory: Path
    release: Path | None

    @property
    def infeasible(self) -> bool:
        """Return True if no candidate met the limits."""
        return bool(self.report["choice"]["infeasible"])

    def export(self, target: Path) -> None:
        """Copy the reports and, if one was made, the release's files to another folder."""
        target.mkdir(parents=True, exist_ok=True)
        sources = [*self.directory.glob("report.*")]
        if self.release is not None:
            sources += [p for p in self.release.iterdir() if not p.name.startswith("report.")]
        for source in sources:
            write_atomically(target / source.name, source.read_bytes())


def inspect(config: Config, cancelled: threading.Event) -> upgrade.Finding | None:
    """Look at the active release; see `stages.upgrade.inspect`."""
    jobs, store = SubprocessJobs(), places.store(config)

    def platform(kind: str) -> Platform:
        runtime = replace(config.runtime, kind=kind or config.runtime.kind, compute_capability="")
        return jobs.run(
            "platform",
            {"config": configuration.dump(replace(config, runtime=runtime))},
            Platform,
            progress=lambda *_: None,
            cancelled=cancelled,
            timeout_s=_CHECK_TIMEOUT_S,
        )

    return upgrade.inspect(
        upgrade.Ports(
            releases=places.releases(config),
            platform=platform,
            check=_checker(config, cancelled),
            stored=lambda digest: store.get(digest, CalibrationSet) is not None,
            count=lambda key: _count_rebuild(config, key),
        )
    )


def _count_rebuild(config: Config, key: str) -> int:
    """Count up and return how often a rebuild was begun, before it is."""
    file = Path(config.storage.dir, _REBUILDS)
    try:
        known = msgspec.json.decode(file.read_bytes(), type=dict[str, int])
    except (OSError, msgspec.MsgspecError):
        known = {}
    number = known.pop(key, 0) + 1
    newest = [*known.items(), (key, number)][-_REBUILDS_KEPT:]
    write_atomically(file, msgspec.json.encode(dict(newest)))
    return number


def chain(config: Config, run_id: str, observe: Observe, cancelled: threading.Event) -> Chain:
    """Return the heavy stages of one run."""
    mode_back(config)
    return Chain(
        config=config,
        run_id=run_id,
        store=places.store(config),
        jobs=SubprocessJobs(),
        clock=SystemClock(),
        history=history(config),
        observe=observe,
        cancelled=cancelled,
    )


def manual_run(config: Config, *, new: bool) -> str:
    """Return the id of the run that the single-stage verbs work on, a new one if asked."""
    note = Path(config.storage.dir, _MANUAL)
    if not new and note.is_file():
        return note.read_text().strip()
    run_id = places.new_id()
    write_atomically(note, run_id.encode())
    return run_id


def history(config: Config) -> tuple[PastMeasurement, ...]:
    """Return what this device measured before."""
    with places.journal(config) as journal:
        return tuple(journal.history(_HISTORY))


def optimize(
    config: Config,
    *,
    trigger: str,
    observe: Observe,
    cancelled: threading.Event,
    run_id: str = "",
    reuse_calibration: bool | str = False,
) -> Finished:
    """Run everything once; see `stages.pipeline.optimize`.

    Args:
        config: The effective configuration.
        trigger: Why, for the report.
        observe: Told of progress.
        cancelled: Set from outside to end the run.
        run_id: Of a run that is taken up again; a new one if empty.
        reuse_calibration: True to work with the frames of the active release, or the id of the
            release whose frames are to be used.

    Raises:
        CalibrationError: "nothing_to_reuse" if there is no such release, or it names no frames.
    """
    clock = SystemClock()
    mode_back(config)
    run_id = run_id or places.new_id()
    directory = _run_folder(config, run_id)
    store = places.store(config)
    store.sweep()
    _prune(config)  # what runs that failed have left
    request = Request(
        run_id=run_id,
        trigger=trigger,
        started=clock.utc(),
        basis=_basis(config, run_id, reuse_calibration),
    )
    ports = Ports(
        store=store,
        jobs=SubprocessJobs(),
        clock=clock,
        releases=places.releases(config),
        run_command=run_command,
        write=lambda run, name, body: write_atomically(_run_folder(config, run) / name, body),
        history=lambda: history(config),
        remember=_rememberer(config),
    )
    try:
        report: Report = run_pipeline(config, request, ports, observe, cancelled)
    finally:
        _tidy(config)
        mode_back(config)
    current = places.releases(config).current()
    release = report.activation.release
    return Finished(
        report=json.loads((directory / "report.json").read_bytes()),
        directory=directory,
        release=Path(config.storage.dir, "releases", release)
        if release and release == current
        else None,
    )


def _basis(config: Config, run_id: str, reuse: bool | str) -> Basis:
    """Return what a run takes over: a release's frames, or the statistics so far.

    Statistics are those of the last run before this one that made a report, so a run that is
    resumed takes over the same, and what a release needs has nothing to do with it.
    """
    if not reuse:
        return _statistics_so_far(config, run_id) if config.calibration.extend else Basis()
    releases = places.releases(config)
    release = reuse if isinstance(reuse, str) else releases.current()
    lineage = releases.facts(release).get("lineage") if release else None
    calibration = stated(lineage, "calibration")
    if calibration is None:
        raise CalibrationError(
            "no calibration frames to work with again: "
            + (f"release {release} names none" if release else "nothing is active"),
            code="nothing_to_reuse",
            hint="capture: run once without --reuse-calibration (reuse_calibration)",
        )
    return Basis(
        calibration=calibration,
        conditioned=stated(lineage, "conditioned"),
        statistics=stated(lineage, "extends"),
    )


def _statistics_so_far(config: Config, before: str = "") -> Basis:
    """Return the newest statistics that a report names, of runs before the one given."""
    for folder in reversed(reports(config)):
        if before and folder.name >= before:
            continue
        try:
            calibration = read_report(folder).get("calibration")
        except StoreError:
            continue
        statistics = stated(calibration, "statistics")
        if statistics:
            return Basis(conditioned=stated(calibration, "conditioned"), statistics=statistics)
    return Basis()


def activate_release(config: Config, release: str) -> Activation:
    """Make an existing release current, with all checks.

    Raises:
        ActivationError: "no_release" if there is none of that name; it is no path.
    """
    known = places.releases(config).ids()
    if release not in known:
        raise ActivationError(
            f"no release {release}",
            code="no_release",
            hint=f"releases here: {', '.join(known) or 'none'}",
        )
    return activation.switch(
        release,
        config.activation,
        releases=places.releases(config),
        run=run_command,
        check=_checker(config),
    )


def roll_back(config: Config) -> Activation:
    """Go back to the newest earlier release that loads."""
    releases = places.releases(config)
    return activation.roll_back(
        config.activation,
        releases=releases,
        earlier=releases.ids(),
        run=run_command,
        check=_checker(config),
    )


def reports(config: Config) -> list[Path]:
    """Return the folders of all reports, oldest first."""
    return sorted(path.parent for path in Path(config.storage.dir, "runs").glob("*/report.json"))


def last_report(config: Config, run_id: str | None = None) -> Path | None:
    """Return the folder of a run's report, the newest if none is named."""
    folders = [folder for folder in reports(config) if run_id in {None, folder.name}]
    return folders[-1] if folders else None


def read_report(folder: Path) -> dict[str, Any]:
    """Return the report in a run's folder.

    Raises:
        StoreError: "bad_report" if it is damaged.
    """
    file = folder / "report.json"
    try:
        report = json.loads(file.read_bytes())
    except (OSError, ValueError) as e:
        raise StoreError(f"{file}: {e}", code="bad_report", hint=_AGAIN) from e
    if not isinstance(report, dict):
        raise StoreError(f"{file} holds no report", code="bad_report", hint=_AGAIN)
    return report


def status(config: Config) -> dict[str, Any]:
    """Return what is active, what ran last and what waits to be sent."""
    if not Path(config.storage.dir).is_dir():
        raise StoreError(
            f"{config.storage.dir} is not there: nothing has run with this configuration",
            hint="`quantd optimize -c ...` or `quantd run -c ...` makes it",
        )
    releases = places.releases(config)
    last = last_report(config)
    with places.journal(config) as journal:
        counts = journal.counts()
        unfinished = [run.run_id for run in journal.unfinished_runs()]
    return {
        "device": config.device.id,
        "active release": releases.current(),
        "releases": releases.ids(),
        "last run": last.name if last else None,
        "unfinished runs": unfinished,
        "messages waiting": counts.waiting,
        "storage": config.storage.dir,
    }


def _run_folder(config: Config, run_id: str) -> Path:
    return Path(config.storage.dir, "runs", run_id)


def _checker(config: Config, cancelled: threading.Event | None = None) -> Callable[[str], None]:
    def check(release: str) -> None:
        SubprocessJobs().run(
            "check",
            {"config": configuration.dump(config), "release": release},
            str,
            progress=lambda *_: None,
            cancelled=cancelled or threading.Event(),
            timeout_s=_CHECK_TIMEOUT_S,
        )

    return check


def _rememberer(config: Config) -> Callable[[Sequence[PastMeasurement]], None]:
    def remember(measured: Sequence[PastMeasurement]) -> None:
        with places.journal(config) as journal, journal.atomic():
            for measurement in measured:
                journal.record(measurement)

    return remember


def mode_back(config: Config) -> None:
    """Set the power mode that a measurement, killed in the middle, did not go back from."""
    try:
        mode = power_modes(config).go_back()
    except PowerError as error:
        _LOG.error("power_mode_not_restored code=%s %s", error.code, error.message)
        return
    if mode:
        _LOG.warning("power_mode_restored mode=%s", mode)


def _tidy(config: Config) -> None:
    """Keep the store within storage.max_mb, and no image where only statistics may stay.

    What the releases were made from stays: after an upgrade of the runtime their engines are
    built again from it. A run that failed or was canceled leaves no images either; if it is
    taken up again, it captures again.
    """
    if config.calibration.keep == "stats":
        for frames in Path(config.storage.dir, "artifacts").glob("*/frames"):
            shutil.rmtree(frames.parent, ignore_errors=True)
    _prune(config)
    runs = sorted(Path(config.storage.dir, "runs").glob("*"))
    for old in runs[:-_RUNS_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _prune(config: Config) -> None:
    used = places.releases(config).lineage() | _statistics_so_far(config).digests
    places.store(config).prune(config.storage.max_mb * 1_000_000, used=used)
