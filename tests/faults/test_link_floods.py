"""More commands than a device can handle: the genuine one is answered meanwhile, in little memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.flood import Flood, genuine_ping
from tests.support.link_scene import link_scene

pytestmark = [pytest.mark.slow, pytest.mark.faults]
_BEFORE = 5_000
_MOST = 60_000
_MOST_MB = 60.0


def test_a_genuine_ping_is_answered_while_a_flood_continues(tmp_path: Path) -> None:
    with link_scene(tmp_path, commands={"keys_dir": str(tmp_path / "keys")}) as scene:
        flood = Flood(scene)
        flood.burst(_BEFORE, signed=False)
        ping = genuine_ping(scene, flood.key)
        sent = _BEFORE
        while ping not in scene.fleet.answered_s:
            assert sent < _MOST, scene.why()
            flood.burst(200, signed=False)
            sent += 200
        assert scene.fleet.heard.ended(ping) == "SUCCEEDED"
        flood.drained(200)
        assert scene.peak_mb() < _MOST_MB
        found = scene.findings()
        assert not found.disordered
        assert not found.changed
        flood.close()


def test_a_flood_of_large_commands_takes_little_memory(tmp_path: Path) -> None:
    with link_scene(tmp_path, commands={"keys_dir": str(tmp_path / "keys")}) as scene:
        flood = Flood(scene)
        flood.send(2_500, b'{"type": "ping", "reason": "' + b"x" * 200_000 + b'"}')
        ping = genuine_ping(scene, flood.key)
        scene.answered(ping, timeout_s=200)
        flood.drained(200)
        assert scene.peak_mb() < _MOST_MB
        flood.close()
