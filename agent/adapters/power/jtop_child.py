"""Prints a JSON line per sample of the jtop service, in a process of its own.

jetson-stats is AGPL-3.0 and changes multiprocessing's start method on import, so only such scripts
import it: `python -m agent.adapters.power.jtop_child PERIOD_S SOCKET`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from importlib import import_module
from multiprocessing import ProcessError
from multiprocessing.managers import RemoteError
from typing import Any

# Its reader thread passes on all exceptions.
_FAILURES = (
    OSError, EOFError, LookupError, TypeError, ValueError, AttributeError, ProcessError, RemoteError,
)  # fmt: skip
# jetson-stats 4.3.2 lists, and adds, the power that a USB-C supply could deliver; 7.2 does not.
_NEGOTIATED = "ucsi-source-psy-"


def main(period_s: float, socket: str) -> int:
    """Print samples until the service is lost; return the exit status."""
    out = sys.stdout

    def write(**line: object) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    try:
        jtop: Any = import_module("jtop")
        service: Any = import_module("jtop.service")
    except ImportError:
        write(error="jetson-stats is not installed", hint="pip install jetson-stats")
        return 1
    service.JTOP_PIPE = socket
    try:
        client = jtop.jtop(period_s)
        client.start()
        if client.interval > period_s * 1.01:  # another client set the interval: use that
            period_s = client.interval
            client.close()
            client = jtop.jtop(period_s)
            client.start()
        write(period_s=float(client.interval))
        last = None
        while client.ok():
            stats = client._stats  # one snapshot; 'uptime' is its time in the service
            if stats["uptime"] == last:
                continue
            last = stats["uptime"]
            rail, power_mw = _total(stats["power"])
            if not rail:
                write(error="jtop reads no power sensor on this board")
                return 1
            write(uptime_s=last, mw=power_mw, rail=rail)
    except (jtop.JtopException, *_FAILURES) as e:
        text = " ".join(str(e).split())
        reason = text if isinstance(e, jtop.JtopException) else f"{type(e).__name__}: {text}"
        write(error=reason, hint="systemctl status jtop; the user's group is jtop")
    return 1


def _total(power: Mapping[str, Any]) -> tuple[str, int]:
    """Return the name of the total's rail, or "sum:" and the rails, and its power in mW.

    The name is empty without any rail, for which jtop reports 0 mW.
    """
    total = power.get("tot", {})
    if total.get("name"):
        return total["name"], total["power"]
    rails = {
        name: rail["power"]
        for name, rail in sorted(power.get("rail", {}).items())
        if not name.startswith(_NEGOTIATED)
    }
    return "sum:" + "+".join(rails) if rails else "", sum(rails.values())


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)  # the main thread may wait forever for a hung service


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main(float(sys.argv[1]), sys.argv[2]))
