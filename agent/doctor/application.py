"""Check of the commands that reload the application and ask for its health."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from agent.adapters.host.commands import command_output
from agent.config import Config
from agent.core.release.unit_commands import refused_by_unit, unit_reload
from agent.doctor.findings import HERE, Finding, Machine, ok, problem, warning

_REQUEST = "reload.sh"


def application(config: Config, machine: Machine = HERE) -> Finding | None:
    """Check whether the installed service can run activation.reload and activation.health."""
    settings = config.activation
    commands = {"reload": settings.reload, "health": settings.health}
    for key, argv in commands.items():
        if argv and shutil.which(argv[0]) is None:
            return problem(
                f"activation.{key}: there is no program {argv[0]}",
                "write its full path; a service's PATH has the system's folders only",
            )
    if not any(commands.values()):
        return None
    if machine.has("etc/systemd/system/quantd.service"):
        for key, argv in commands.items():
            if reason := refused_by_unit(argv):
                return warning(f"activation.{key}: {reason}", unit_reload(sys.prefix))
        if waits := _waiting_unit(settings.reload):
            state = command_output("systemctl", "is-active", waits) or "unknown"
            if state != "active":
                return problem(
                    f"activation.reload asks {waits}, which is {state}",
                    f"`sudo systemctl enable --now {waits}`",
                )
    return ok("; ".join(f"{key}: {' '.join(argv)}" for key, argv in commands.items() if argv))


def _waiting_unit(reload: Sequence[str]) -> str:
    """Return the unit that waits for the requests of reload.sh, "" if that is not used."""
    asks = len(reload) > 1 and reload[-2].rpartition("/")[2] == _REQUEST
    return f"quantd-reload@{reload[-1]}.path" if asks else ""
