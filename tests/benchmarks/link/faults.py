"""The long run: many messages, faults of all kinds at random, and a ledger."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.benchmarks.rows import Row
from tests.support.link_scene import FAULTS, LinkScene, break_link, link_scene
from tests.support.polling import until
from tests.support.scene import quantd, write_config

_OUTSTANDING = 1_000  # commands without an answer, at most
_BETWEEN_S = (0.3, 2.0)  # of two faults
_SWITCHES = 16  # commands that change the active release, each with a fault meanwhile
_FAULTS_OF_A_SWITCH = ("daemon_kill", "daemon_stop", "reset", "broker_kill", "acks_cut")


def rows(messages: int, seed: int) -> list[Row]:
    """Return the row of what was lost, out of order, or done twice."""
    source = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        releases = two_releases(directory)
        with link_scene(directory) as scene:
            broken: Counter[str] = Counter()
            wrong = switched(scene, releases, source, broken)
            flow(scene, messages, source, broken)
            scene.settle(600)
            return [_row(scene, broken, wrong, seed)]


def two_releases(directory: Path) -> list[str]:
    """Make a release and a copy of it under a later id; return both ids."""
    config = write_config(directory, search={"precisions": ["fp32"]})
    done = quantd("optimize", "-c", config, "--json")
    assert done.returncode == 0, done.stderr
    folder = directory / "state" / "releases"
    (first,) = (one.name for one in folder.iterdir())
    second = f"{first[:-1]}{'0' if first[-1] != '0' else '1'}"
    shutil.copytree(folder / first, folder / second)
    return [first, second]


def flow(scene: LinkScene, messages: int, source: random.Random, broken: Counter[str]) -> None:
    """Send pings, and break the link, until so many messages came to the broker."""
    next_s, shown = time.monotonic(), 0
    while scene.given.messages - scene.given.repeated < messages:
        if len(scene.fleet.sent) - len(scene.fleet.answered_s) < _OUTSTANDING:
            for _ in range(50):
                scene.ping()
        else:
            time.sleep(0.01)
        if time.monotonic() >= next_s:
            kind = source.choice(FAULTS)
            break_link(scene, kind, source)
            broken[kind] += 1
            lost_by_broker = kind == "broker_kill"
            if lost_by_broker and scene.waiting() == 0:
                for command_id in scene.fleet.unanswered():
                    scene.fleet.repeat(command_id)
            next_s = time.monotonic() + source.uniform(*_BETWEEN_S)
        if scene.given.messages // 10_000 > shown:
            shown = scene.given.messages // 10_000
            sys.stderr.write(f"  {scene.given.messages} messages, {broken.total()} faults\n")


def switched(
    scene: LinkScene, releases: list[str], source: random.Random, broken: Counter[str]
) -> list[str]:
    """Roll back and activate in turn, with a fault meanwhile; return what went wrong.

    A rollback that runs twice ends at the release where it began.
    """
    wrong = []
    current = scene.directory / "state" / "current"
    for number in range(_SWITCHES):
        before = current.readlink().name
        other = next(one for one in releases if one != before)
        command_id = f"switch{number}"
        body = {"type": "rollback"}
        if number % 2:
            body = {"type": "activate", "args": {"release": other}}  # type: ignore[dict-item]
        scene.fleet.send(command_id, body)
        time.sleep(source.uniform(0, 2.5))
        kind = source.choice(_FAULTS_OF_A_SWITCH)
        break_link(scene, kind, source)
        broken[kind] += 1
        scene.settle(120)
        until(lambda one=command_id: one in scene.fleet.answered_s, 120, scene.why)
        stage = scene.fleet.heard.ended(command_id)
        after = current.readlink().name
        if (after == other) != (stage == "SUCCEEDED"):
            wrong.append(f"{command_id} {body['type']} {kind}: {before} -> {after}, {stage}")
    return wrong


def _row(scene: LinkScene, broken: Counter[str], wrong: list[str], seed: int) -> Row:
    found = scene.findings()
    lost = sum(map(len, found.lost.values()))
    twice = sorted({*scene.given.run_twice(), *scene.fleet.heard.run_twice(), *wrong})
    heard = scene.fleet.heard
    by_broker = sum(
        not heard.has("result", number) for number in range(1, scene.given.last("result") + 1)
    )
    count = scene.given.messages - scene.given.repeated
    return Row(
        what=f"{count:,} messages of {len(scene.fleet.sent):,} commands through "
        f"{broken.total()} faults: lost, out of order, commands run twice",
        goal="0, 0, 0",
        found=f"{lost}, {len(found.disordered)}, {len(twice)}; {scene.given.repeated} came again "
        f"with the same id; {by_broker} results lost by the killed brokers",
        met=not (lost or found.disordered or found.changed or twice) and count >= 100_000,
        detail={
            "seed": seed,
            "faults": dict(broken),
            "lost": dict(found.lost),
            "disordered": found.disordered,
            "changed": found.changed,
            "twice": twice,
            "peak_mb": scene.peak_mb(),
        },
    )
