"""Reload and health commands that quantd's systemd unit keeps from working."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SETUID = frozenset({"sudo", "su", "doas", "pkexec"})
_SIGNALS = frozenset({"kill", "pkill", "killall"})
_READS = frozenset({"is-active", "is-failed", "is-enabled", "status", "show", "cat"})
_RUNS_OTHERS = frozenset({"sh", "bash", "dash", "env", "timeout", "nice"})
_WORD = re.compile(r"[^\s;&|()<>`'\"$]+")
_HIDDEN = re.compile(r"/(?:home|root|run/user)(?:/|$)")


def refused_by_unit(argv: Sequence[str]) -> str:
    """Return why a command can't work under quantd.service, "" if nothing speaks against it.

    The unit's user is quantd, without capabilities, with NoNewPrivileges and ProtectHome. A polkit
    rule of the device's own may allow `systemctl` all the same.

    Args:
        argv: The command; of a shell its script is searched too.
    """
    for word in argv:
        if _HIDDEN.match(word):
            return f"ProtectHome hides {word} from quantd.service"
    words = list(argv)
    programs = words[:1]
    if programs and _name(programs[0]) in _RUNS_OTHERS:
        words = programs = [word for part in argv for word in _WORD.findall(part)]
    for at, word in enumerate(programs):
        name = _name(word)
        if name in _SETUID:
            return f"`{name}` gets no rights in quantd.service (NoNewPrivileges)"
        if name in _SIGNALS:
            return f"`{name}` reaches no process of another user from quantd.service"
        if name in {"systemctl", "service"} and not _reads(words[at + 1 :]):
            return f"`{name}` can't change a unit from quantd.service: its user is quantd"
    return ""


def unit_reload(prefix: str) -> str:
    """Return what reloads an application from the unit.

    Args:
        prefix: Where quantd is installed.
    """
    return (
        "`sudo systemctl enable --now quantd-reload@my-app.path` and reload = "
        f'["sh", "{prefix}/share/quantd/systemd/reload.sh", "my-app"] have systemd reload it'
    )


def _name(word: str) -> str:
    return word.rpartition("/")[2]


def _reads(arguments: Sequence[str]) -> bool:
    """Return whether systemctl or service only reads: the verb is first, of `service` second."""
    return any(word in _READS for word in [w for w in arguments if w[:1] != "-"][:2])
