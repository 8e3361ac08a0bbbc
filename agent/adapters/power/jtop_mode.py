"""Sets a power mode through the jtop service: `python -m agent.adapters.power.jtop_mode NAME SOCKET`.

In a process of its own for the reasons of `jtop_child`. Another client may take a command from the
service's queue, and a mode that nvpmodel refuses raises nothing, so the caller must verify the mode.
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from typing import Any

_PATIENCE_S = 8.0


def main(name: str, socket: str) -> int:
    """Request the mode and wait until the service reports it; return the exit status."""
    try:
        jtop: Any = import_module("jtop")
        service: Any = import_module("jtop.service")
    except ImportError:
        sys.stdout.write("jetson-stats is not installed\n")
        return 1
    service.JTOP_PIPE = socket
    client = jtop.jtop(0.5)
    try:
        client.start()
        if client.nvpmodel is None:
            sys.stdout.write("the jtop service finds no nvpmodel\n")
            return 1
        client.nvpmodel.set_nvpmodel_name(name)
        deadline = time.monotonic() + _PATIENCE_S
        while client.ok() and client.nvpmodel.name != name and time.monotonic() < deadline:
            pass
        return int(client.nvpmodel.name != name)
    except (jtop.JtopException, OSError, EOFError) as e:
        sys.stdout.write(f"{e}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
