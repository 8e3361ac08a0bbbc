"""How much memory a process had at most."""

from __future__ import annotations

from pathlib import Path


def peak_rss_mb() -> float:
    """Return the most memory that this process had resident, MB of 10^6 bytes.

    VmHWM, since ru_maxrss begins at what the parent had when it forked.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return round(int(line.split()[1]) * 1024 / 1e6, 1)
