"""Power cuts at random moments, half of them aimed at a switch, and what did not hold after them."""

from __future__ import annotations

import secrets
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.rows import Row
from tests.support.broker import any_broker
from tests.support.power_cuts import PROMISES, device, series


def rows(count: int, seed: int) -> list[Row]:
    """Return one row for each promise.

    Args:
        count: How many cuts.
        seed: Draws the rounds; 0 for a new one.
    """
    seed = seed or secrets.randbelow(1_000_000)
    sys.stderr.write(f"seed {seed}\n")
    with (
        tempfile.TemporaryDirectory() as name,
        any_broker(Path(name)) as broker,
        device(Path(name), broker) as found,
    ):
        series(found, seed, count)
    for fault in found.faults:
        sys.stderr.write(f"{fault.promise}: {fault.seen}\n")
    detail = {"seed": seed, **asdict(found.counts)}
    made = found.counts
    sys.stderr.write(
        f"{made.cuts} power cuts ({made.in_switch} within a switch, {made.repeated} soon after "
        f"a start), {made.stops} clean stops, {made.commands} commands, {made.reloads} reloads\n"
    )
    result = []
    for promise, words in PROMISES.items():
        broken = [fault.seen for fault in found.faults if fault.promise == promise]
        result.append(
            Row(
                what=words,
                goal=f"after each of {made.cuts} power cuts",
                found=f"{len(broken)} times not",
                met=not broken,
                detail={**detail, "broken": broken},
            )
        )
    return result
