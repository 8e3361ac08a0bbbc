"""Prints a JSON line per sample of the jtop service, in a process of its own.

jetson-stats is AGPL-3.0 and changes multiprocessing's start method on import, so only such scripts
import it: `python -m agent.adapters.power.jtop_child PERIOD_S SOCKET ROOT TOTAL...`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from multiprocessing import ProcessError
from multiprocessing.managers import RemoteError
from typing import Any

from agent.adapters.power.ina3221 import TOTALS, find_rails, total
from agent.packages import installer, pip_install

# Its reader thread passes on all exceptions.
_FAILURES = (
    OSError, EOFError, LookupError, TypeError, ValueError, AttributeError, ProcessError, RemoteError,
)  # fmt: skip


def main(period_s: float, socket: str, root: str, totals: Sequence[str]) -> int:
    """Print samples until the service is lost; return the exit status.

    Args:
        period_s: Requested time between samples.
        socket: Of the service.
        root: Root of the file system; its hwmon names the rails.
        totals: Names of rails for the total.
    """
    out = sys.stdout

    def write(**line: object) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    try:
        jtop: Any = import_module("jtop")
        service: Any = import_module("jtop.service")
    except ImportError:
        write(error="jetson-stats is not installed", hint=pip_install("jetson-stats"))
        return 1
    service.JTOP_PIPE = socket
    rails = find_rails(root)
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
            powers_mw = _rails_mw(stats["power"], rails)
            rail, parts = total(powers_mw, totals)
            if not parts:
                others = f": no rail {' or '.join(totals)}, only {', '.join(powers_mw)}"
                write(error="jtop reads no power sensor on this board" + others * bool(powers_mw))
                return 1
            write(uptime_s=last, mw=sum(powers_mw[part] for part in parts), rail=rail)
    except (jtop.JtopException, *_FAILURES) as e:
        # jtop's advice, `sudo jtop --install-service`, writes a unit for /usr/local/bin/jtop
        text = " ".join(str(e).split()).partition(" Please run")[0]
        reason = text if isinstance(e, jtop.JtopException) else f"{type(e).__name__}: {text}"
        write(error=reason, hint=f"`systemctl status jtop`; `sudo sh {installer()} --jtop`")
    return 1


def _rails_mw(power: Mapping[str, Any], rails: Collection[str]) -> dict[str, int]:
    """Return the power of each rail, mW, with what jtop makes the total.

    jtop lists what is in /sys/class/power_supply among the rails: batteries, chargers and, in
    4.3.2, what a USB-C supply could deliver. They are not consumption and left out: what has a
    status, and what hwmon does not name. Without any rail jtop reports a total of 0 mW.

    Args:
        power: `jtop.power`.
        rails: Those of hwmon; empty if it is hidden.
    """
    listed = dict(power.get("rail", {}))
    jtops = power.get("tot", {})
    if jtops.get("name"):
        listed[jtops["name"]] = jtops
    return {
        name: rail["power"]
        for name, rail in listed.items()
        if "status" not in rail and (not rails or name in rails or name in TOTALS)
    }


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)  # the main thread may wait forever for a hung service


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main(float(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]))
