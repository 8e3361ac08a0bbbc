"""Switch to a release, check it, and switch back if it is bad."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from agent.config import ActivationTable, Config
from agent.core.errors import ActivationError, JobError, RunnerError
from agent.core.records import Activation
from agent.core.release.marks import rollback_order
from agent.core.release.recovery import BegunSwitch, CommandResult
from agent.ports import Jobs, Releases
from agent.wire.jobs import CheckRelease

_LOG = logging.getLogger(__name__)

RunCommand = Callable[[Sequence[str], float, Mapping[str, str], threading.Event], CommandResult]
"""Called as run(argv, timeout_s, extra environment, cancelled)."""


def release_check(config: Config, jobs: Jobs, cancelled: threading.Event) -> Callable[[str], None]:
    """Return a check that loads a release and runs it once; it raises a QuantdError if bad."""

    def check(release: str) -> None:
        spec = CheckRelease(config=config, release=release)
        jobs.run(spec, progress=lambda *_: None, cancelled=cancelled)

    return check


def switch(
    release: str,
    settings: ActivationTable,
    *,
    run_id: str,
    releases: Releases,
    run: RunCommand,
    check: Callable[[str], None],
    cancelled: threading.Event,
    leaving: str = "",
) -> Activation:
    """Make an existing release current: check, intend, switch, reload, health, then keep or undo.

    Args:
        release: Its id.
        settings: The reload and health commands, and how many releases to keep.
        run_id: The run that switches; the ledger answers for it from now on.
        releases: All releases of the device.
        run: Runs a user's command.
        check: See `release_check`.
        cancelled: Set from outside to end a command; `recover` then undoes the switch.
        leaving: Why the present release is bad from then on; empty if it is not.

    Raises:
        RunnerError: if the release no longer loads; it is bad from now on.
        JobError: "canceled".
    """
    previous = releases.current()
    if previous == release:
        return Activation(state="unchanged", release=release, previous=previous)
    try:
        check(release)  # before anything is changed
    except RunnerError as error:
        if error.code != "no_runtime":  # which is the machine's fault
            releases.mark(release, good=False, reason=error.message)
        raise
    releases.intend(run_id, release, previous)
    releases.switch(release)
    trouble = _reload_and_health(release, settings, run, cancelled)
    if trouble:
        releases.mark(release, good=False, reason=trouble)
        releases.refuse(trouble)
        begun = BegunSwitch(run_id=run_id, release=release, previous=previous, trouble=trouble)
        return _go_back(begun, previous, settings, releases=releases, run=run, cancelled=cancelled)
    releases.mark(release, good=True)
    if leaving and previous:
        releases.mark(previous, good=False, reason=leaving)
    done = Activation(state="active", release=release, previous=previous)
    releases.finish(done, settings.keep)
    return done


def rollback_target(releases: Releases) -> str | None:
    """Return the release to roll back to, None if there is none; see `rollback_order`."""
    return next(iter(_rollback_order(releases)), None)


def roll_back(
    settings: ActivationTable,
    *,
    run_id: str,
    releases: Releases,
    run: RunCommand,
    check: Callable[[str], None],
    cancelled: threading.Event,
    to: str | None = None,
) -> Activation:
    """Roll back to a release, and mark the one that is left as bad.

    Args:
        settings: See `switch`; so for the others.
        run_id: The run.
        releases: All releases of the device.
        run: Runs a user's command.
        check: See `release_check`.
        cancelled: Set from outside to end a command.
        to: The `rollback_target` when the rollback was asked for; None to find it now. If it no
            longer loads, the next one is taken.

    Raises:
        ActivationError: if there is none that loads.
    """
    wanted = () if to is None else (to,)
    for release in dict.fromkeys((*wanted, *_rollback_order(releases))):
        try:
            return switch(
                release,
                settings,
                run_id=run_id,
                releases=releases,
                run=run,
                check=check,
                cancelled=cancelled,
                leaving=f"rolled back from, to {release}",
            )
        except (RunnerError, JobError) as error:  # a job dies of an engine that crashes it
            if error.code == "canceled":
                raise
            _LOG.warning("release_damaged release=%s %s", release, error.message)
    raise ActivationError(
        "no good release to roll back to",
        hint="`quantd status` lists the releases; `quantd activate RELEASE` takes any of them",
    )


def recover(
    settings: ActivationTable,
    *,
    releases: Releases,
    run: RunCommand,
    cancelled: threading.Event,
) -> Activation | None:
    """Undo a switch that was begun and has no outcome; None if there is none.

    The application is always reloaded: it may have been killed in the reload of either release.

    Raises:
        JobError: "canceled"; `current` is the earlier release again, and the next one completes it.
    """
    begun = releases.pending()
    if begun is None:
        return None
    target = begun.previous
    if target is not None and target not in releases.ids():
        target = rollback_target(releases)
    return _go_back(begun, target, settings, releases=releases, run=run, cancelled=cancelled)


def _go_back(
    begun: BegunSwitch,
    target: str | None,
    settings: ActivationTable,
    *,
    releases: Releases,
    run: RunCommand,
    cancelled: threading.Event,
) -> Activation:
    """Make `target` current in place of a release that was refused, or never judged."""
    if releases.current() != target:
        releases.switch(target)
    back = _reload_and_health(target, settings, run, cancelled)
    if target is not None and not back:  # an interrupted rollback may have marked it bad already
        releases.mark(target, good=True)
    unknown = f"the switch to {begun.release} was interrupted before its health was known"
    reason = begun.trouble or unknown
    done = Activation(
        state="rolled_back" if begun.trouble else "interrupted",
        release=target,
        previous=begun.release,
        detail=reason + (f"; and after rolling back: {back}" if back else ""),
    )
    releases.finish(done, settings.keep)
    return done


def _rollback_order(releases: Releases) -> tuple[str, ...]:
    return rollback_order(releases.ids(), releases.current(), releases.marks())


def _reload_and_health(
    release: str | None, settings: ActivationTable, run: RunCommand, cancelled: threading.Event
) -> str:
    """Run the reload and health commands; return what went wrong, empty if nothing.

    Without a release the health command is not run.
    """
    environment = {"QUANTD_RELEASE": release or ""}
    for argv in (settings.reload, settings.health if release else ()):
        if argv:
            result = run(argv, settings.health_timeout_s, environment, cancelled)
            if not result.good:
                return result.describe()
    return ""
