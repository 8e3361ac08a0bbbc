"""At the daemon's start: does the active release still fit, and does it still load?

After an upgrade of JetPack, TensorRT or ONNX Runtime, after the storage has been moved to
another device, after a power cut that damaged a file: what still loads is kept in service,
and a run that builds the engine again is planned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.core.errors import BuildError, RunnerError
from agent.core.records import Digest, Platform
from agent.core.release.upgrade import (
    Plan,
    conditions,
    differences,
    fingerprint,
    foreign,
    left_on_purpose,
    plan,
)
from agent.ports import Releases


@dataclass(frozen=True, kw_only=True)
class Ports:
    """What an inspection asks of the world.

    Attributes:
        platform: Finds what a runtime (by its kind) is here; "" for the configured one.
        check: Loads a release and runs it once; raises a RunnerError if it is bad.
        stored: Whether the frames of a calibration are still there.
        count: Counts up and returns the persisted number of a rebuild for a state, from 1.
    """

    releases: Releases
    platform: Callable[[str], Platform]
    check: Callable[[str], None]
    stored: Callable[[Digest], bool]
    count: Callable[[str], int]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something is wrong with the active release.

    Attributes:
        release: The one that was looked at.
        changes: What is not as it was when it was made, in words.
        trouble: Why it can't be used; empty if it loads and runs.
        roll_back: Whether to go back to an earlier release meanwhile, if one loads.
        attempt: Which rebuild for this state this is; 0 if none is planned.
        reuse: Whether a rebuild works with the frames that the release was made from.
        frames: Why, in words.
    """

    release: str
    changes: tuple[str, ...]
    trouble: str
    roll_back: bool
    plan: Plan
    attempt: int
    reuse: bool
    frames: str


def inspect(ports: Ports) -> Finding | None:
    """Look at the active release; None if there is none, or if all is well.

    Raises:
        QuantdError: if that could not be found out (no memory, out of time, canceled);
            nothing was changed then.
    """
    release = ports.releases.current()
    if release is None:
        return None
    stated = ports.releases.facts(release)
    made = _table(stated, "runtime")
    try:
        here = conditions(ports.platform(str(made.get("kind", ""))))
    except BuildError as error:
        return _without_runtime(release, error.message)
    changes = differences(made, here)
    trouble = _trouble(release, ports)
    if not changes and not trouble:
        return None
    attempt = 0
    others = [other for other in ports.releases.ids() if other != release]
    made_for = (_table(ports.releases.facts(other), "runtime") for other in others)
    on_purpose = left_on_purpose(loads=not trouble, here=here, others=made_for)
    if not on_purpose:
        attempt = ports.count(
            f"upgrade_{fingerprint(here)[:16]}" if changes else f"repair_{release}"
        )
    reuse, frames = _frames(stated, foreign(made, here), ports)
    return Finding(
        release=release,
        changes=changes,
        trouble=trouble,
        roll_back=bool(trouble) and min(others, default=release) < release,
        plan=plan(on_purpose=on_purpose, attempt=attempt),
        attempt=attempt,
        reuse=reuse,
        frames=frames,
    )


def _without_runtime(release: str, trouble: str) -> Finding:
    """Leave all as it is: another runtime would be a choice, and this one may come back."""
    return Finding(
        release=release,
        changes=(),
        trouble=trouble,
        roll_back=False,
        plan="give_up",
        attempt=0,
        reuse=False,
        frames="",
    )


def _trouble(release: str, ports: Ports) -> str:
    try:
        ports.check(release)
    except RunnerError as error:
        return error.message
    return ""


def _frames(
    stated: Mapping[str, object], strangers: tuple[str, ...], ports: Ports
) -> tuple[bool, str]:
    digest = _table(stated, "lineage").get("calibration")
    if strangers:
        return False, f"captured anew: the release was made on another device ({strangers[0]})"
    if not isinstance(digest, str) or not ports.stored(Digest(digest)):
        return False, "captured anew: those of the release are no longer stored"
    return True, "those that the release was made from"


def _table(stated: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = stated.get(name)
    return found if isinstance(found, Mapping) else {}
