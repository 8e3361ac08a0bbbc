"""Switch to a release, check it, and switch back if it is bad."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from agent.config import ActivationTable, Config
from agent.core.errors import ActivationError, QuantdError
from agent.core.records import Activation
from agent.core.release.recovery import CommandResult, recovery
from agent.ports import Jobs, Releases
from agent.wire.jobs import CheckRelease

RunCommand = Callable[[Sequence[str], float, Mapping[str, str]], CommandResult]
"""Called as run(argv, timeout_s, extra environment)."""


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
    releases: Releases,
    run: RunCommand,
    check: Callable[[str], None],
) -> Activation:
    """Make an existing release current: check, intend, switch, reload, health, then keep or undo.

    Args:
        release: Its id.
        settings: The reload and health commands, and how many releases to keep.
        releases: All releases of the device.
        run: Runs a user's command.
        check: See `release_check`.
    """
    previous = releases.current()
    if previous == release:
        return Activation(state="unchanged", release=release, previous=previous)
    check(release)  # before anything is changed
    releases.intend(release, previous)
    releases.switch(release)
    trouble = _reload_and_health(release, settings, run)
    if not trouble:
        releases.finish(settings.keep)
        return Activation(state="active", release=release, previous=previous)
    releases.switch(previous)
    back = _reload_and_health(previous or "", settings, run)
    releases.finish(settings.keep)
    return Activation(
        state="rolled_back",
        release=previous,
        previous=release,
        detail=trouble + (f"; and after rolling back: {back}" if back else ""),
    )


def roll_back(
    settings: ActivationTable,
    *,
    releases: Releases,
    run: RunCommand,
    check: Callable[[str], None],
) -> Activation:
    """Make the newest good release before the current one current.

    Raises:
        ActivationError: if none of them loads.
    """
    current = releases.current()
    before = [release for release in releases.ids() if current is None or release < current]
    for release in reversed(before):
        try:
            return switch(release, settings, releases=releases, run=run, check=check)
        except QuantdError:
            continue  # it no longer loads; the one before it may
    raise ActivationError(
        "no earlier release to roll back to", hint="`quantd status` lists the releases"
    )


def recover(settings: ActivationTable, *, releases: Releases, run: RunCommand) -> Activation | None:
    """Undo a switch that was begun and never confirmed, at start; None if there is none."""
    pending = releases.pending()
    back, target, reason = recovery(pending, releases.current())
    if pending is None:
        return None
    if back:
        releases.switch(target)
        if target:
            _reload_and_health(target, settings, run)
    releases.finish(settings.keep)
    return Activation(
        state="rolled_back" if back else "not_attempted",
        release=target,
        previous=pending[0],
        detail=reason,
    )


def _reload_and_health(release: str, settings: ActivationTable, run: RunCommand) -> str:
    """Run the reload and health commands; return what went wrong, empty if nothing."""
    environment = {"QUANTD_RELEASE": release}
    for argv in (settings.reload, settings.health):
        if argv:
            result = run(argv, settings.health_timeout_s, environment)
            if not result.good:
                return result.describe()
    return ""
