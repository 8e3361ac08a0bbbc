"""What the daemon's worker does: a whole run, an activation or a rollback."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
from typing_extensions import assert_never

from agent.config import Config
from agent.core.control.command import Stage, judge_expectation
from agent.core.control.events import Ended, Work
from agent.core.control.requests import Activate, Optimize, RollBack
from agent.core.errors import CommandError, ConfigError, JobError, QuantdError
from agent.core.records import Activation
from agent.disk import has_room
from agent.ports import Journal, Releases
from agent.run.artifacts import Observe
from agent.wire.commands import encode_task
from agent.wiring import released, reported, runs, storage
from agent.wiring.exclusive import exclusive

_LOG = logging.getLogger(__name__)

_RETRY_S = 5.0
_REPORT_BYTES = 4_000_000

Result = tuple[Stage, str, str, str]


def perform(
    config: Config,
    journal: Journal,
    stopping: threading.Event,
    work: Work,
    observe: Observe,
    cancelled: threading.Event,
    *,
    origin: Mapping[str, str],
    warn: Callable[[str], None],
) -> Result:
    """Do the work when no other process measures or switches, as `daemon.worker.Perform`.

    A switch that the ledger has an outcome of is what the command is answered with, whatever
    fails after it. While the disk is full, a switch that can't be undone yet has not ended, and
    neither has a run that can't write the report of its switch.
    """
    alone = partial(
        exclusive,
        config,
        f"quantd run: {work.kind}",
        run_id=work.run_id,
        stopping=stopping,
        waiting=lambda holder: observe("waiting", 0, 1, f"for {holder}"),
    )
    optimize = partial(
        runs.optimize, origin=origin, observe=observe, warn=warn, cancelled=cancelled
    )
    releases = storage.releases(config)
    while True:
        try:
            with alone(cancelled=cancelled):
                return _do(config, journal, work, optimize, cancelled)
        except QuantdError as error:
            while _begun(releases) == work.run_id and not stopping.wait(_RETRY_S):
                observe("recover", 0, 1, error.message)
                with contextlib.suppress(QuantdError), alone(cancelled=stopping):
                    pass  # it recovers
            done = releases.settled(work.run_id)
            if done is None:
                raise
            observe("report", 0, 1, error.message)
            again = error.passing and _has_room(config, cancelled)
            if stopping.is_set():
                raise JobError("the next start writes the report", code="canceled") from error
            if not again:
                _LOG.error("run_incomplete run_id=%s code=%s %s", work.run_id, error.code, error)
                stage, _, detail, result = _result(config, work.run_id, done)
                return stage, error.code, f"{detail}; {error.message}", result


def _has_room(config: Config, cancelled: threading.Event) -> bool:
    """Wait for space for a report; return False if cancelled."""
    while not cancelled.wait(_RETRY_S):
        if has_room(Path(config.storage.dir), _REPORT_BYTES):
            return True
    return False


def _begun(releases: Releases) -> str | None:
    """Return the run of the switch that has no outcome yet; it may be another process's."""
    begun = releases.pending()
    return begun.run_id if begun else None


def settled(config: Config, run_id: str) -> Ended | None:
    """Return the end of a run that has finished its switch of releases, else None."""
    done = storage.releases(config).settled(run_id)
    return Ended(run_id, *_result(config, run_id, done)) if done else None


def _result(config: Config, run_id: str, done: Activation) -> Result:
    stage, code = Stage.SUCCEEDED, ""
    if done.state == "rolled_back":
        stage, code = Stage.ROLLED_BACK, "unhealthy"
    folder = reported.last_report(config, run_id)
    where = str(folder) if folder else ""
    return stage, code, f"{done.state} {done.release} {done.detail}".strip(), where


def _do(
    config: Config,
    journal: Journal,
    work: Work,
    optimize: Callable[..., runs.Finished],
    cancelled: threading.Event,
) -> Result:
    """Do each kind of work.

    Raises:
        CommandError: "stale_precondition" if what the command expects is no longer so.
    """
    releases = storage.releases(config)
    if releases.settled(work.run_id) is None:  # else its own switch is what changed the release
        stale = judge_expectation(work.task.expect, releases.current())
        if stale is not None:
            raise CommandError(stale.detail, code=stale.code)
    match work.task:
        case Optimize():
            return _optimize(config, work, work.task, optimize)
        case Activate(release=release):
            done = released.activate_release(
                config, release, run_id=work.run_id, cancelled=cancelled
            )
        case RollBack():
            to = _target(config, journal, work.run_id, work.task)
            done = released.roll_back(config, run_id=work.run_id, cancelled=cancelled, to=to)
        case _:
            assert_never(work.task)
    return _result(config, work.run_id, done)


def _target(config: Config, journal: Journal, run_id: str, task: RollBack) -> str | None:
    """Return the release to roll back to: the stored one, or a new one, which is stored first."""
    if task.to is not None:
        return task.to
    found = released.rollback_target(config)
    if found is not None:
        journal.specify_run(run_id, encode_task(replace(task, to=found)))
    return found


def _optimize(
    config: Config, work: Work, task: Optimize, optimize: Callable[..., runs.Finished]
) -> Result:
    current = storage.releases(config).current()
    if task.replaces and current and current != work.run_id and current > task.replaces:
        # ids sort by time: a newer release has done what the rebuild was begun for
        return Stage.SUCCEEDED, "", f"release {current} took its place meanwhile", ""
    finished = optimize(
        _adjusted(config, task),
        trigger=work.trigger,
        run_id=work.run_id,
        # a release that is rebuilt may not be the active one
        reuse_calibration=task.reuse_calibration and (task.replaces or True),
    )
    where = str(finished.directory)
    report = finished.report
    if report.choice.infeasible:
        return Stage.FAILED, "infeasible", report.choice.why, where
    if report.activation.state == "rolled_back":
        return Stage.ROLLED_BACK, "unhealthy", report.activation.detail, where
    return Stage.SUCCEEDED, "", report.headline, where


def _adjusted(config: Config, task: Optimize) -> Config:
    """Return the configuration with a command's own limits.

    Raises:
        ConfigError: if it names another model than the configured one.
    """
    if task.model and task.model != config.model.name:
        raise ConfigError(f"this device has the model {config.model.name}, not {task.model}")
    limits = msgspec.structs.replace(config.limits, **task.limits)
    return msgspec.structs.replace(config, limits=limits)
