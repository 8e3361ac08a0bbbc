"""Floods of commands: how long a genuine ping takes, how much memory the daemon."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.benchmarks.rows import Row
from tests.support.flood import Flood, genuine_ping
from tests.support.link_scene import link_scene

_BURST = 10_000
_LARGE = 2_500
_LARGE_BODY = b'{"type": "ping", "reason": "' + b"x" * 200_000 + b'"}'
_WITHIN_S = 5.0
_MOST_MB = 60.0


def rows() -> list[Row]:
    """Return a row for unsigned commands, one for large ones, one for an operator's own burst."""
    return [_burst(signed=False), _large(), _burst(signed=True)]


def _burst(*, signed: bool) -> Row:
    with (
        tempfile.TemporaryDirectory() as name,
        link_scene(Path(name), "persistence false", commands={"keys_dir": f"{name}/keys"}) as scene,
    ):
        flood = Flood(scene)
        flood.burst(_BURST // 2, signed=signed)
        sent_s = time.monotonic()
        ping = genuine_ping(scene, flood.key)
        flood.burst(_BURST // 2, signed=signed)
        scene.answered(ping, timeout_s=300)
        after_s = scene.fleet.answered_s[ping] - sent_s
        flood.drained(300)
        peak_mb = scene.peak_mb()
        flood.close()
    kind = "genuine" if signed else "unsigned"
    return Row(
        what=f"{_BURST:,} {kind} commands in a burst: the ping amid them is answered; memory",
        goal=f"within {_WITHIN_S:.0f} s; under {_MOST_MB:.0f} MB",
        found=f"{after_s:.1f} s; {peak_mb:.1f} MB",
        met=after_s <= _WITHIN_S and peak_mb < _MOST_MB,
    )


def _large() -> Row:
    with (
        tempfile.TemporaryDirectory() as name,
        link_scene(Path(name), "persistence false", commands={"keys_dir": f"{name}/keys"}) as scene,
    ):
        flood = Flood(scene)
        flood.send(_LARGE, _LARGE_BODY)
        sent_s = time.monotonic()
        ping = genuine_ping(scene, flood.key)
        scene.answered(ping, timeout_s=300)
        after_s = scene.fleet.answered_s[ping] - sent_s
        flood.drained(300)
        peak_mb = scene.peak_mb()
        flood.close()
    return Row(
        what=f"{_LARGE:,} commands of 200 kB: memory; a ping after them",
        goal=f"under {_MOST_MB:.0f} MB",
        found=f"{peak_mb:.1f} MB; {after_s:.1f} s",
        met=peak_mb < _MOST_MB,
    )
