"""Whether a release still fits the machine and its runtime, and what to do if not.

An engine is made for one machine and one state of its software. After a JetPack upgrade the
frames of the device's own camera are still valid, so the engine is built again from them. In a
storage folder of another device neither the engine nor the frames are valid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from agent.core.records import Digest, Platform, digest_of

MACHINE_FACTS = ("board", "compute_capability")
SOFTWARE_FACTS = ("driver", "l4t")
ATTEMPTS = 3
"""Rebuilds for one state of machine and software before quantd gives up."""

_MACHINE = ("device", *MACHINE_FACTS)
_SOFTWARE = ("kind", "version", *SOFTWARE_FACTS)

Conditions = Mapping[str, object]
"""`runtime` of a release's model.json."""
Plan = Literal["keep", "rebuild", "give_up"]


def conditions(platform: Platform) -> dict[str, str | int | float | None]:
    """Return the conditions an engine built here is made for: `runtime` of model.json."""
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

    A fact that one side lacks is not compared: earlier versions stored fewer, and a container
    can't read all of them.
    """
    return _differences(made, here, (*_MACHINE, *_SOFTWARE))


def foreign(made: Conditions, here: Conditions) -> tuple[str, ...]:
    """Return in words why an engine was made on another device; empty if it was made on this.

    Runtimes name the device differently, so its name is compared within one runtime only.
    """
    same_runtime = made.get("kind") == here.get("kind")
    return _differences(made, here, _MACHINE if same_runtime else MACHINE_FACTS[:1])


def left_on_purpose(*, loads: bool, here: Conditions, others: Iterable[Conditions]) -> bool:
    """Return whether an active release that doesn't fit was activated on purpose.

    Args:
        loads: Whether it still loads and runs.
        here: The conditions now.
        others: Conditions of the other releases. If one fits, an operator or a failed health
            check rolled back from it.
    """
    return loads and any(other and not differences(other, here) for other in others)


def plan(*, on_purpose: bool, attempt: int) -> Plan:
    """Decide about an active release that doesn't fit or doesn't load.

    Args:
        on_purpose: Result of `left_on_purpose`.
        attempt: Number of the rebuild for this state, from 1.
    """
    if on_purpose:
        return "keep"
    return "rebuild" if attempt <= ATTEMPTS else "give_up"


def _differences(made: Conditions, here: Conditions, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        f"{_NAMES.get(name, name)} {str(made[name])[:80]}, now {str(here[name])[:80]}"
        for name in names
        if made.get(name) is not None and here.get(name) not in (None, made[name])
    )


_NAMES = {
    "kind": "runtime",
    "version": "runtime version",
    "l4t": "L4T",
    "compute_capability": "compute capability",
}
