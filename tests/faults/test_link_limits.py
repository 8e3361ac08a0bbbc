"""Limits and rights of a broker, and identities that change: kept, noticed, used."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.link_scene import link_scene

pytestmark = pytest.mark.slow


def test_no_more_is_in_flight_than_the_broker_allows(tmp_path: Path) -> None:
    with link_scene(tmp_path, started=False) as scene:
        scene.proxy.receive_maximum(3)
        scene.daemon.start()
        scene.online()
        for _ in range(100):
            scene.ping()
        scene.settle()
        assert scene.findings().none
        assert max(scene.proxy.in_flight.values()) <= 3
