"""Two that measure or switch on one storage.dir at the same time: one after the other, and both end well."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent import config as configuration
from agent.disk import write_atomically
from agent.wiring import storage
from tests.support.application import Application
from tests.support.broker import any_broker
from tests.support.fleet import Console, DaemonProcess
from tests.support.polling import until
from tests.support.scene import quantd, write_config
from tests.support.switches import copied, current, incomplete, leftovers, pending

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
_SWITCH = ["reload", "reloaded", "health", "healthy"]
_QUICK = {("daemon", "activate"), ("activate", "rollback"), ("optimize", "measure")}
_ACTORS = ("daemon", "optimize", "activate", "rollback", "measure")
_PAIRS = [
    pair
    for pair in itertools.combinations_with_replacement(_ACTORS, 2)
    if pair != ("daemon", "daemon")
]


@dataclass(kw_only=True)
class Machine:
    """A storage.dir with some releases, and an application that needs a while to load one."""

    folder: Path
    config: Path
    application: Application
    console: Console
    number: Iterator[int] = field(default_factory=itertools.count)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def prepare(self) -> None:
        """Make the newest of three releases current, as if each had been activated."""
        oldest = sorted((self.state / "releases").iterdir())[0].name
        names = [copied(self.config, oldest) for _ in range(3)]
        (self.state / "activation.json").unlink(missing_ok=True)
        (self.state / ".link").symlink_to(Path("releases", names[-1]))
        (self.state / ".link").rename(self.state / "current")
        for release in (self.state / "releases").iterdir():  # or too many remove those waited for
            if release.name not in {oldest, *names}:
                shutil.rmtree(release)
        releases = storage.releases(configuration.load(self.config))
        for name in (oldest, *names):  # two rollbacks need two that are good
            releases.mark(name, good=True)
        self.application.give(names[-1])
        write_atomically(self.state / "manual-run", self.manual.encode())

    @property
    def manual(self) -> str:
        return (self.folder / "manual").read_text()

    def arguments(self, actor: str, *, older: int = 1) -> list[str]:
        releases = sorted((self.state / "releases").iterdir())
        return [
            actor,
            "-c",
            str(self.config),
            *([releases[-1 - older].name] if actor == "activate" else []),
        ]

    def start(self, actor: str, *, older: int = 1) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "agent", *self.arguments(actor, older=older)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    application = Application(folder / "application", folder / "state" / "current")
    with any_broker(folder) as broker, Console(broker.host, broker.port, "cam-1") as console:
        config = write_config(
            folder,
            mqtt={"host": broker.host, "port": broker.port},
            commands={"require_signature": False},
            search={"precisions": ["fp32"]},
            measure={"warmup_s": 0.0, "duration_s": 0.5, "rounds": 1},
            activation={**application.commands, "keep": 20},
        )
        for verb in ("optimize", "capture", "build"):
            done = quantd(verb, "-c", config)
            assert done.returncode == 0, done.stderr
        (folder / "manual").write_text((folder / "state" / "manual-run").read_text())
        yield Machine(folder=folder, config=config, application=application, console=console)


class Watch:
    """Looks at a machine while two work on it: what both must not do at the same time."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.intents: list[str | None] = []
        self.measuring = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.002):
            intent = pending(self._machine.config)
            if not self.intents or self.intents[-1] != intent:
                self.intents.append(intent)
            self.measuring = max(self.measuring, self._measuring())

    def _measuring(self) -> int:
        own, found = str(self._machine.folder), 0
        for spec in Path("/tmp").glob("quantd-job-*/spec.json"):
            with contextlib.suppress(OSError, ValueError):
                body = json.loads(spec.read_bytes())
                found += body["kind"] == "measure" and body["config"]["storage"]["dir"].startswith(
                    own
                )
        return found


@pytest.mark.parametrize("when", [pytest.param("together", marks=pytest.mark.faults), "meanwhile"])
@pytest.mark.parametrize(
    ("one", "other"),
    [pytest.param(*pair, marks=[] if pair in _QUICK else pytest.mark.faults) for pair in _PAIRS],
)
def test_one_waits_for_the_other(machine: Machine, one: str, other: str, when: str) -> None:
    """`meanwhile`: the second begins when the first is switching, or if it never is, working."""
    machine.prepare()
    machine.application.plan(reload_s=0.6, health_s=0.3)
    before = machine.application.size()

    def began() -> bool:
        switching = any(line.what == "reload" for line in machine.application.seen(before))
        return switching or (watch.measuring > 0 and one == "measure")

    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(Watch(machine))
        command = ""
        if one == "daemon":
            heard = len(machine.console.heard)
            daemon = stack.enter_context(DaemonProcess(machine.config))
            until(lambda: any(kind == "state" and m["status"] == "online"
                                 for kind, m, _ in machine.console.heard[heard:]))  # fmt: skip
            command = f"w{next(machine.number)}"
            release = machine.arguments("activate")[-1]
            body = {"type": "activate", "args": {"release": release}}
            machine.console.command(command, body)
            first = None
        else:
            first = machine.start(one)
        if when == "meanwhile":
            until(lambda: began() or (first is not None and first.poll() is not None))
        second = machine.start(other, older=2)
        ended = [process.communicate(timeout=120) for process in (first, second) if process]
        codes = [process.returncode for process in (first, second) if process]
        if command:
            result = machine.console.result(command)
            assert result["stage"] == "SUCCEEDED", result
            assert daemon.stop() == 0
    assert codes == [0] * len(codes), ended
    assert watch.measuring <= 1, "two measured at the same time"
    seen = machine.application.seen(before)
    switches = [seen[i : i + len(_SWITCH)] for i in range(0, len(seen), len(_SWITCH))]
    for switch in switches:
        assert [line.what for line in switch] == _SWITCH, seen
        assert len({(line.parent, line.release) for line in switch}) == 1, seen
    for earlier, later in itertools.pairwise(watch.intents):
        assert earlier is None or later is None, f"{later} was begun over {earlier}"
    settled(machine)
    if switches:
        assert current(machine.state) == switches[-1][0].release


def settled(machine: Machine) -> None:
    now = current(machine.state)
    assert incomplete(machine.state) == ""
    assert machine.application.given() == (now, now)
    assert pending(machine.config) is None
    assert leftovers(machine.state) == []


@pytest.mark.parametrize(
    "other",
    [
        "activate",
        *(
            pytest.param(one, marks=pytest.mark.faults)
            for one in ("optimize", "rollback", "measure")
        ),
    ],
)
def test_who_will_not_wait_is_refused_with_the_name_of_the_holder(
    machine: Machine, other: str
) -> None:
    machine.prepare()
    before = machine.application.size()
    with machine.application.paused():
        first = machine.start("activate")
        until(lambda: bool(machine.application.seen(before)))
        refused = quantd(*machine.arguments(other), "--no-wait")
        assert first.poll() is None
    first.communicate(timeout=60)
    assert refused.returncode == 1, refused.stderr
    assert "activate" in refused.stderr
    assert str(first.pid) in refused.stderr
    assert first.returncode == 0
    settled(machine)


def test_who_waits_names_the_holder_and_can_be_interrupted(machine: Machine) -> None:
    machine.prepare()
    before = machine.application.size()
    with machine.application.paused():
        first = machine.start("activate")
        until(lambda: bool(machine.application.seen(before)))
        second = machine.start("rollback")
        assert second.stderr is not None
        line = second.stderr.readline()
        assert first.poll() is None
        assert "activate" in line
        assert str(first.pid) in line
        second.send_signal(2)
        second.communicate(timeout=30)
        assert first.poll() is None, "it waited to the end"
    assert second.returncode != 0
    first.communicate(timeout=60)
    assert first.returncode == 0
    assert len(machine.application.seen(before)) == len(_SWITCH)
    settled(machine)
