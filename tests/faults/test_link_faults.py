"""The daemon's link broken in every known way, with a ledger of each message.

Nothing is lost but what is announced, nothing comes out of order, no command runs twice.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from agent.daemon.outbox import IN_FLIGHT
from tests.support.link_scene import FAULTS, LinkScene, break_link, link_scene
from tests.support.mqtt_packets import Kind
from tests.support.polling import until

pytestmark = pytest.mark.slow
_IN_MAKE_TEST = {"broker_kill", "daemon_kill", "acks_cut"}


def kept(scene: LinkScene, faults: int) -> None:
    """Check the ledger once every command has ended and nothing waits."""
    scene.settle()
    found = scene.findings()
    assert found.none, found
    assert scene.given.run_twice() == scene.fleet.heard.run_twice() == []
    assert scene.fleet.heard.findings().disordered == []
    assert scene.given.repeated <= IN_FLIGHT * faults


@pytest.mark.parametrize(
    "kind",
    [
        kind if kind in _IN_MAKE_TEST else pytest.param(kind, marks=pytest.mark.faults)
        for kind in FAULTS
    ],
)
def test_a_fault_loses_nothing_and_repeats_no_more_than_was_in_flight(
    tmp_path: Path, kind: str
) -> None:
    source = random.Random(kind)
    with link_scene(tmp_path) as scene:
        for _ in range(3):
            for _ in range(100):
                scene.ping()
            break_link(scene, kind, source)
        kept(scene, 3)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(3))
def test_faults_of_all_kinds_in_any_order(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    with link_scene(tmp_path) as scene:
        for _ in range(20):
            for _ in range(source.randrange(150)):
                scene.ping()
            break_link(scene, source.choice(FAULTS), source)
        kept(scene, 20)


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["hole", "half_open", "deaf", "mute"])
def test_a_link_that_carries_nothing_is_given_up(tmp_path: Path, kind: str) -> None:
    """Nothing ends the connection but the daemon, by its keep-alive."""
    with link_scene(tmp_path) as scene:
        first = scene.ping()
        scene.answered(first)
        before = scene.proxy.connections
        if kind == "hole":
            scene.proxy.black_hole()
        elif kind == "half_open":
            scene.proxy.half_open()
        else:
            scene.proxy.drop("up" if kind == "mute" else "down")
        scene.ping()
        until(lambda: scene.proxy.connections > before, 120, scene.why)
        scene.proxy.heal()
        kept(scene, scene.proxy.connections)


@pytest.mark.faults
@pytest.mark.timeout(400)
def test_acknowledgements_that_no_longer_come_are_noticed(tmp_path: Path) -> None:
    """The link is alive: pings are answered and commands arrive. The limit is far above the goal."""
    with link_scene(tmp_path) as scene:
        scene.answered(scene.ping())
        before = scene.proxy.connections
        scene.proxy.drop("down", Kind.PUBACK)
        scene.ping()
        until(lambda: scene.proxy.connections > before, 150, scene.why)
        scene.proxy.heal()
        kept(scene, scene.proxy.connections)
