"""The one process that imports jtop: prints a JSON line per sample of the jtop service.

jetson-stats is AGPL-3.0 and changes multiprocessing's start method on import, so it is kept
to this script: `python -m agent.adapters.jtop_child PERIOD_S`.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any


def main(period_s: float) -> int:
    """Print samples until the service is lost; return the exit status."""
    out = sys.stdout

    def say(**line: object) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    try:
        jtop: Any = import_module("jtop")
    except ImportError:
        say(error="jetson-stats is not installed", hint="pip install jetson-stats")
        return 1
    try:
        client = jtop.jtop(period_s)
        client.start()
        if client.interval > period_s * 1.01:  # another client owns the interval: take its own
            period_s = client.interval
            client.close()
            client = jtop.jtop(period_s)
            client.start()
        say(period_s=float(client.interval))
        last = None
        while client.ok():
            stats = client._stats  # one snapshot; 'uptime' is when the service took it
            if stats["uptime"] == last:
                continue
            last = stats["uptime"]
            total = stats["power"].get("tot", {})
            rails = "+".join(sorted(stats["power"].get("rail", {})))
            if "power" in total:
                say(uptime_s=last, mw=total["power"], rail=total.get("name") or f"sum:{rails}")
    except (jtop.JtopException, OSError, EOFError) as e:
        say(error=" ".join(str(e).split()), hint="systemctl status jtop; the user's group is jtop")
    return 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
