"""Hostile inputs: commands, tokens, keys, topics, and packets of a hostile broker."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from tests.benchmarks.memory import peak_rss_mb
from tests.benchmarks.rows import Row
from tests.support.hostile_runs import commands_survived, daemon_survived

_OF_PACKETS = 0.4  # of the inputs
_MOST_MB = 60.0


def rows(cases: int, seed: int) -> list[Row]:
    """Return how many inputs were survived; a crash ends the benchmark with its seed."""
    packets = round(cases * _OF_PACKETS)
    codes: Counter[str] = Counter()
    half = -(-(cases - packets) // 20) * 10
    for number in (seed, seed + 1):  # one takes unsigned commands, the other does not
        with tempfile.TemporaryDirectory() as name:
            codes += commands_survived(Path(name), seed=number, cases=half)
    with tempfile.TemporaryDirectory() as name:
        found = daemon_survived(Path(name), seed=seed, packets=packets)
    total = codes.total() + found.packets
    return [
        Row(
            what=f"{total:,} hostile inputs: {codes.total():,} commands, tokens and keys, "
            f"{found.packets:,} packets of a hostile broker over {found.connections:,} connections",
            goal=f"10,000 or more; 0 crashes; under {_MOST_MB:.0f} MB",
            found=f"0 crashes; {found.peak_mb:.1f} MB; a ping is answered afterwards",
            met=total >= 10_000 and found.answered and found.peak_mb < _MOST_MB,
            detail={"seed": seed, "codes": dict(codes), "own_peak_mb": peak_rss_mb()},
        )
    ]
