"""Whether a release still fits the machine and the runtime it lies on, and what to do if not.

An engine is made for one machine and one state of its software. A JetPack upgrade changes the
software: the frames of the device's own camera still hold, so the engine is built again from
them. A storage folder that came from another device brings neither the right engine nor the
right frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from agent.core.records import Digest, Platform, digest_of

MACHINE_FACTS = ("board", "compute_capability")
SOFTWARE_FACTS = ("driver", "l4t")
ATTEMPTS = 3
"""Rebuilds that are begun for one state of machine and software before it is left alone."""

_MACHINE = ("device", *MACHINE_FACTS)
_SOFTWARE = ("kind", "version", *SOFTWARE_FACTS)

Conditions = Mapping[str, object]
"""`runtime` of a release's model.json."""
Plan = Literal["keep", "rebuild", "give_up"]


def conditions(platform: Platform) -> dict[str, str | int | float | None]:
    """Return what an engine that is made here holds for: `runtime` of model.json."""
    facts = platform.environment
    return {
        "kind": platform.runtime,
        "version": platform.runtime_version,
        "device": platform.device,
        **{name: facts.get(name) for name in (*MACHINE_FACTS, *SOFTWARE_FACTS)},
    }


def fingerprint(here: Conditions) -> Digest:
    """Return the identity of this state of machine and software."""
    return digest_of("conditions-1", {name: here.get(name) for name in (*_MACHINE, *_SOFTWARE)})


def differences(made: Conditions, here: Conditions) -> tuple[str, ...]:
    """Return in words what has changed since an engine was made; empty if it still fits.

    A fact that one side doesn't know is not compared: earlier versions stated fewer, and a
    container doesn't see them all.
    """
    return _differences(made, here, (*_MACHINE, *_SOFTWARE))


def foreign(made: Conditions, here: Conditions) -> tuple[str, ...]:
    """Return in words why an engine was made on another device; empty if it was made on this.

    Where the runtime differs, its name for the device says nothing.
    """
    same_runtime = made.get("kind") == here.get("kind")
    return _differences(made, here, _MACHINE if same_runtime else MACHINE_FACTS[:1])


def left_on_purpose(*, loads: bool, here: Conditions, others: Iterable[Conditions]) -> bool:
    """Return whether an active release that doesn't fit is to stay.

    Args:
        loads: Whether it still loads and runs.
        here: How it is now.
        others: What the other releases were made for. If one fits, somebody, or a health
            command that failed, went back from it.
    """
    return loads and any(other and not differences(other, here) for other in others)


def plan(*, on_purpose: bool, attempt: int) -> Plan:
    """Decide about an active release that doesn't fit or doesn't load.

    Args:
        on_purpose: As `left_on_purpose` says.
        attempt: Which rebuild for this state it would be, from 1.
    """
    if on_purpose:
        return "keep"
    return "rebuild" if attempt <= ATTEMPTS else "give_up"


def _differences(made: Conditions, here: Conditions, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        f"{_NAMES.get(name, name)} {_told(made[name])}, now {_told(here[name])}"
        for name in names
        if made.get(name) is not None and here.get(name) not in (None, made[name])
    )


_NAMES = {
    "kind": "runtime",
    "version": "runtime version",
    "l4t": "L4T",
    "compute_capability": "compute capability",
}


def _told(value: object) -> str:
    return str(value)[:80]
