"""What the daemon costs after many commands, when nothing happens any more."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.benchmarks.bench_daemon import idle
from tests.benchmarks.rows import Row
from tests.support.link_scene import LinkScene, link_scene

_COMMANDS = 1_000
_SECONDS = 60.0  # as often as telemetry is published
_MOST_MB = 40.0
_MOST_CPU_PERCENT = 0.05


def rows() -> list[Row]:
    """Return memory and processor time after the commands, and after as many again."""
    with tempfile.TemporaryDirectory() as name, link_scene(Path(name), module="agent") as scene:
        _pings(scene)
        first = idle(scene.process, _SECONDS)
        _pings(scene)
        second = idle(scene.process, _SECONDS)
    worst = max(first["rss_mb"], second["rss_mb"])
    cpu = max(first["cpu_percent"], second["cpu_percent"])
    return [
        Row(
            what=f"idle daemon after {_COMMANDS:,} commands, and after {_COMMANDS:,} more",
            goal=f"under {_MOST_MB:.0f} MB, flat; under {_MOST_CPU_PERCENT} % of a core",
            found=f"{first['rss_mb']} MB, then {second['rss_mb']} MB; {cpu} %",
            met=worst < _MOST_MB and cpu < _MOST_CPU_PERCENT,
            detail={"first": first, "second": second},
        )
    ]


def _pings(scene: LinkScene) -> None:
    scene.answered(*[scene.ping() for _ in range(_COMMANDS)], timeout_s=120)
