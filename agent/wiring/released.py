"""The releases of this device: whether the active one still holds, and switching by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from agent import config as configuration
from agent.adapters.host.commands import run_command
from agent.adapters.host.jobs import SubprocessJobs
from agent.config import Config
from agent.core.errors import ActivationError
from agent.core.records import Activation, CalibrationSet, Platform
from agent.disk import write_atomically
from agent.run import activation, upgrade
from agent.wiring import places

_CHECK_TIMEOUT_S = 120.0
_REBUILDS = "rebuilds.json"
_REBUILDS_KEPT = 32


def inspect(config: Config, cancelled: threading.Event) -> upgrade.Finding | None:
    """Look at the active release; see `run.upgrade.inspect`."""
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
