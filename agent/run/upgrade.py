"""Check at the daemon's start whether the active release still fits this device and loads.

It may not after an upgrade of JetPack, TensorRT or ONNX Runtime, after the storage was moved to
another device, or after a power cut that damaged a file. A release that still loads stays active,
and a run that rebuilds its engine is planned.
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
from agent.run.activation import rollback_target


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The ports of an inspection.

    Attributes:
        platform: Returns the platform of a runtime (by its kind); "" for the configured one.
        check: Loads a release and runs it once; raises a RunnerError if it is bad.
        stored: Returns whether the frames of a calibration are still stored.
        count: Adds 1 to the persisted number of rebuilds under a key, and returns it.
    """

    releases: Releases
    platform: Callable[[str], Platform]
    check: Callable[[str], None]
    stored: Callable[[Digest], bool]
    count: Callable[[str], int]


@dataclass(frozen=True, kw_only=True)
class UnfitRelease:
    """An active release that does not fit this device any more, or does not load.

    Attributes:
        release: Its id.
        changes: What has changed since it was made, in words.
        trouble: Why it can't be used; empty if it loads and runs.
        roll_back: Whether to activate an earlier release meanwhile, if one loads.
        plan: Whether to rebuild it.
        attempt: Number of this rebuild for this state, from 1; 0 if none is planned.
        reuse: Whether a rebuild reuses the frames that the release was made from.
        frames: The reason for `reuse`, in words.
    """

    release: str
    changes: tuple[str, ...]
    trouble: str
    roll_back: bool
    plan: Plan
    attempt: int
    reuse: bool
    frames: str


def inspect(ports: Ports) -> UnfitRelease | None:
    """Check the active release; return None if there is none, or if it is good.

    Raises:
        QuantdError: if it can't be checked (no memory, timeout, canceled); nothing was changed.
    """
    release = ports.releases.current()
    if release is None:
        return None
    described = ports.releases.model_json(release)
    made = _table(described, "runtime")
    try:
        here = conditions(ports.platform(str(made.get("kind", ""))))
    except BuildError as error:
        # Another runtime would be a new choice, and this one may come back: change nothing.
        return UnfitRelease(
            release=release, changes=(), trouble=error.message, roll_back=False, plan="give_up",
            attempt=0, reuse=False, frames="",
        )  # fmt: skip
    changes, trouble = differences(made, here), ""
    try:
        ports.check(release)
    except RunnerError as error:
        trouble = error.message
    if not changes and not trouble:
        return None
    attempt = 0
    others = [other for other in ports.releases.ids() if other != release]
    made_for = (_table(ports.releases.model_json(other), "runtime") for other in others)
    on_purpose = left_on_purpose(loads=not trouble, here=here, others=made_for)
    if not on_purpose:
        attempt = ports.count(
            f"upgrade_{fingerprint(here)[:16]}" if changes else f"repair_{release}"
        )
    reuse, frames = _frames(described, foreign(made, here), ports)
    return UnfitRelease(
        release=release,
        changes=changes,
        trouble=trouble,
        roll_back=bool(trouble) and rollback_target(ports.releases) is not None,
        plan=plan(on_purpose=on_purpose, attempt=attempt),
        attempt=attempt,
        reuse=reuse,
        frames=frames,
    )


def _frames(
    described: Mapping[str, object], foreign_reasons: tuple[str, ...], ports: Ports
) -> tuple[bool, str]:
    digest = _table(described, "lineage").get("calibration")
    if foreign_reasons:
        return (
            False,
            f"captured again: the release was made on another device ({foreign_reasons[0]})",
        )
    if not isinstance(digest, str) or not ports.stored(Digest(digest)):
        return False, "captured again: those of the release are no longer stored"
    return True, "those that the release was made from"


def _table(described: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = described.get(name)
    return found if isinstance(found, Mapping) else {}
