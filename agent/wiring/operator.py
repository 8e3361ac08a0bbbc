"""An operator's work: keys, signed commands, and following what becomes of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.adapters.mqtt.operator import OperatorLink
from agent.adapters.mqtt.signing_keys import make_key, read_signing_key
from agent.config import Mqtt
from agent.core.control.following import Followed, Following
from agent.core.control.ulid import Ulids
from agent.disk import READABLE, write_atomically
from agent.wire.issuing import SignedCommand, compose, read_token

_SHOW_S = 0.2

__all__ = ["follow", "keep", "make_key", "new_id", "sign"]


def new_id(kind: str) -> str:
    """Return a command's id, never used before."""
    return f"{kind}-{Ulids().next(time.time_ns() // 1_000_000)}"


def sign(
    kind: str,
    devices: Sequence[str],
    command_id: str,
    *,
    key: Path,
    kid: str,
    args: Mapping[str, Any],
    expect: Mapping[str, Any] | None,
    valid_s: int,
) -> list[SignedCommand]:
    """Return a command, signed for each device.

    Args:
        kind: As `reoptimize`.
        devices: Their ids.
        command_id: The same for all.
        key: File of the private key.
        kid: Its name on the devices; "" for that of the file.
        args: Of the command.
        expect: See `wire.issuing.compose`.
        valid_s: Until it expires, s.

    Raises:
        ConfigError: if the key can't be used, or a device would refuse the command.
    """
    signer = read_signing_key(key, kid)
    now_s = int(time.time())
    return [
        read_token(
            signer.sign(
                compose(
                    kind,
                    device,
                    command_id,
                    args=args,
                    expect=expect,
                    now_s=now_s,
                    valid_s=valid_s,
                )
            )
        )
        for device in devices
    ]


def keep(commands: Sequence[SignedCommand], path: Path) -> None:
    """Write signed commands to a file, one a line.

    Raises:
        StoreError: if that is not possible.
    """
    write_atomically(path, b"".join(one.token + b"\n" for one in commands), mode=READABLE)


def follow(
    settings: Mqtt,
    commands: Sequence[SignedCommand],
    *,
    watch: Callable[[Sequence[Followed]], None],
    cancelled: threading.Event,
    wait: bool,
) -> Sequence[Followed]:
    """Publish signed commands and follow them until each has ended.

    Args:
        settings: The broker, and the devices' root topic.
        commands: Published as they are.
        watch: Called with what is known of all, at most five times a second.
        cancelled: Ends it; the devices carry on.
        wait: False: only until the broker has them and 1 s has brought no answer.

    Returns:
        What is known of each, in the order of `commands`.

    Raises:
        ConfigError, LinkError: if there is no connection.
    """
    by_key = {(one.device, one.id): one for one in commands}
    following = Following({key: one.exp_s for key, one in by_key.items()}, patient=wait)
    with OperatorLink(settings, commands) as link:
        following.expire(time.time(), late_s=0.0)
        link.publish(by_key[key] for key in following.waiting)
        shown_s = 0.0
        while following.waiting and not cancelled.is_set():
            found = link.answer(_SHOW_S if wait else 1.0)
            now_s = time.monotonic()
            if found is not None:
                following.take(found, now_s)
            elif not wait:
                break
            if now_s - shown_s >= _SHOW_S:
                shown_s = now_s
                following.expire(time.time())
                link.publish(by_key[key] for key in following.due(now_s))
                watch(following.found)
    watch(following.found)
    return following.found
