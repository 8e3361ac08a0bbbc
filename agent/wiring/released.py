"""The releases of this device: inspect the active one, activate another, roll back."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
from msgspec.structs import replace

from agent.adapters.host.commands import run_command
from agent.adapters.host.jobs import SubprocessJobs
from agent.config import Config
from agent.core.errors import ActivationError
from agent.core.records import Activation, CalibrationSet, Platform
from agent.disk import READABLE, write_atomically
from agent.run import activation, upgrade
from agent.wire.jobs import FindPlatform
from agent.wiring import storage

_REBUILDS = "rebuilds.json"
_REBUILDS_KEPT = 32


def inspect(config: Config, cancelled: threading.Event) -> upgrade.UnfitRelease | None:
    """Check the active release; see `run.upgrade.inspect`."""
    jobs, store = SubprocessJobs(), storage.store(config)

    def platform(kind: str) -> Platform:
        runtime = replace(config.runtime, kind=kind or config.runtime.kind, compute_capability="")
        spec = FindPlatform(config=replace(config, runtime=runtime))
        return jobs.run(spec, progress=lambda *_: None, cancelled=cancelled)

    return upgrade.inspect(
        upgrade.Ports(
            releases=storage.releases(config),
            platform=platform,
            check=activation.release_check(config, jobs, cancelled),
            stored=lambda digest: store.get(digest, CalibrationSet) is not None,
            count=lambda key: _count_rebuild(config, key),
        )
    )


def _count_rebuild(config: Config, key: str) -> int:
    """Add 1 to the persisted count of rebuilds under a key, and return it."""
    file = Path(config.storage.dir, _REBUILDS)
    try:
        known = msgspec.json.decode(file.read_bytes(), type=dict[str, int])
    except (OSError, msgspec.MsgspecError):
        known = {}
    number = known.pop(key, 0) + 1
    newest = [*known.items(), (key, number)][-_REBUILDS_KEPT:]
    write_atomically(file, msgspec.json.encode(dict(newest)), mode=READABLE)
    return number


def activate_release(
    config: Config, release: str, *, run_id: str, cancelled: threading.Event
) -> Activation:
    """Make an existing release current, in `exclusive`; see `run.activation.switch`.

    Args:
        config: The effective configuration.
        release: An id, not a path.
        run_id: The run that does it; if it has done so already, that outcome is returned.
        cancelled: Set from outside to end the check or a command.

    Raises:
        ActivationError: "no_release" if there is no release with this id.
    """
    releases = storage.releases(config)
    if done := releases.settled(run_id):
        return done
    known = releases.ids()
    if release not in known:
        raise ActivationError(
            f"no release {release}",
            code="no_release",
            hint=f"releases here: {', '.join(known) or 'none'}",
        )
    return activation.switch(
        release,
        config.activation,
        run_id=run_id,
        releases=releases,
        run=run_command,
        check=activation.release_check(config, SubprocessJobs(), cancelled),
        cancelled=cancelled,
    )


def rollback_target(config: Config) -> str | None:
    """Return the release that a rollback would activate now, None if there is none."""
    return activation.rollback_target(storage.releases(config))


def roll_back(
    config: Config, *, run_id: str, cancelled: threading.Event, to: str | None = None
) -> Activation:
    """Roll back to a good release, in `exclusive`; see `run.activation.roll_back`.

    Args:
        config: The effective configuration.
        run_id: The run that does it; if it has done so already, that outcome is returned.
        cancelled: Set from outside to end the check or a command.
        to: The `rollback_target` when the rollback was asked for; None to find it now.
    """
    releases = storage.releases(config)
    return releases.settled(run_id) or activation.roll_back(
        config.activation,
        run_id=run_id,
        releases=releases,
        run=run_command,
        check=activation.release_check(config, SubprocessJobs(), cancelled),
        cancelled=cancelled,
        to=to,
    )
