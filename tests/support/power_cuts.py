"""A device whose power fails at random moments: the real daemon, a real broker, and every invariant.

A cut is SIGKILL of the daemon and all that it started, found by a variable in their environment, as
their parents may be gone. What is drawn depends on the seed alone; when exactly a cut hits does not.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import config as configuration
from agent.wiring import storage
from tests.support.application import Application
from tests.support.broker import Broker
from tests.support.fleet import Console
from tests.support.scene import quantd, write_config
from tests.support.switches import copied, current, incomplete, leftovers, pending

DEVICE = "cam-1"
_MARK = "QUANTD_TEST_POWER"
_SETTLE_S = 90.0  # of a busy machine; a device takes some seconds
_NO_WINDOW_S = 6.0
_STOCK = 4  # releases to switch between
_ENDS = {"SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "CANCELED", "ROLLED_BACK"}
_WINDOW = ("reload", "health", "link", "intent", "end", "back")
_AIMS = (*_WINDOW, *["time"] * len(_WINDOW))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What one round does: commands, an application of some mood, and one to three cuts.

    Attributes:
        commands: Type and arguments; a release is a number, of the releases there are by then.
        aim: What the first cut waits for: a step of an activation, or only the time.
        delay_s: From there to the cut.
        stop: Whether it is SIGTERM instead, as of a service manager.
        by_hand: Whether a person does the first command while the daemon is down, and is cut off.
        again_s: Further cuts, s after each start; negative: after the begin of a reload command.
    """

    commands: tuple[tuple[str, dict[str, Any]], ...]
    reload_s: float
    health_s: float
    refuses: bool
    aim: str
    delay_s: float
    stop: bool
    by_hand: bool
    again_s: tuple[float, ...]


def drawn(source: random.Random) -> Cut:
    """Return a random round."""

    def command() -> tuple[str, dict[str, Any]]:
        kind = source.choices(("activate", "rollback", "reoptimize"), (5, 4, 2))[0]
        number = source.randrange(1000)
        return kind, {
            "activate": {"release": number},
            "rollback": {},
            "reoptimize": {"reuse_calibration": True},
        }[kind]

    by_hand = source.random() < 0.2
    stop = not by_hand and source.random() < 0.15
    aim = source.choice(_WINDOW if stop else _AIMS)
    again = source.choices((0, 1, 2), (14, 5, 1))[0]
    return Cut(
        commands=tuple(command() for _ in range(source.choice((1, 1, 2)))),
        reload_s=source.choice((0.0, 0.05, 0.3)),
        health_s=source.choice((0.0, 0.05, 0.3)),
        refuses=source.random() < (0.9 if aim == "back" else 0.25),
        aim=aim,
        delay_s=source.uniform(0, 2.5) if aim == "time" else source.choice((0, 0.01, 0.1, 0.4)),
        stop=stop,
        by_hand=by_hand,
        again_s=tuple(
            -source.uniform(0.001, 0.2) if source.random() < 0.5 else source.uniform(0, 1.2)
            for _ in range(again)
        ),
    )


PROMISES = {
    "whole": "`current` is one complete release whose files are those of its model.json",
    "loaded": "the application has loaded `current`",
    "ended": "each command ended once, and what it answered is what is so",
    "reported": "the report of each run was delivered",
    "tidy": "nothing half-written, no intent and no job folder is left",
    "up": "the daemon starts, comes online and stops cleanly",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A promise that was broken, and how, with the round it was seen in."""

    promise: str
    seen: str


@dataclass(slots=True)
class Counts:
    """How many cuts of which kind a series has made."""

    cuts: int = 0
    stops: int = 0
    in_switch: int = 0
    repeated: int = 0
    commands: int = 0
    reloads: int = 0
    slowest_start_s: float = 0.0


@dataclass(kw_only=True)
class Device:
    """The device, its console and what it must keep to.

    Attributes:
        faults: Every violation so far.
    """

    folder: Path
    console: Console
    config: Path
    application: Application
    faults: list[Fault] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    _mark: str = field(default_factory=lambda: secrets.token_hex(8))
    _process: subprocess.Popen[bytes] | None = None
    _round: str = ""
    _sent: int = 0
    _refused: set[str] = field(default_factory=set)
    _earlier: set[str] = field(default_factory=set)
    _earlier_left: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._earlier = self._runs()  # of the command line, which publishes nothing
        self._stock()
        newest = _releases(self.config).ids()[-1]
        _releases(self.config).switch(newest)
        self.application.give(newest)

    @property
    def state(self) -> Path:
        """Return storage.dir."""
        return self.folder / "state"

    # The device ---------------------------------------------------------------------------------

    def start(self, *verb: str) -> None:
        """Start the daemon, or do one thing by hand."""
        with (self.folder / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agent", *(verb or ("run",)), "-c", str(self.config)],
                stdout=log,
                stderr=log,
                env={**os.environ, _MARK: self._mark, "TMPDIR": str(self.folder / "tmp")},
            )

    def cut(self) -> None:
        """Kill the daemon and all of its descendants at once."""
        assert self._process is not None
        self._process.kill()
        while left := list(self._running()):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait(10)

    def stop(self) -> None:
        """End the daemon as a service manager does."""
        assert self._process is not None
        self._process.terminate()
        if status := self._process.wait(60):
            self._fault("up", f"a clean stop ended with {status}")
        if left := list(self._running()):
            self._fault("up", f"{len(left)} processes outlived a clean stop")
            self.cut()

    def _running(self) -> Iterator[int]:
        wanted = f"{_MARK}={self._mark}".encode()
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                with contextlib.suppress(OSError):
                    if wanted in (folder / "environ").read_bytes():
                        yield int(folder.name)

    # A round ------------------------------------------------------------------------------------

    def round(self, name: str, cut: Cut) -> None:
        """Send commands, cut the power, start again, and check everything once it is quiet."""
        self._round = f"{name} {cut}"
        self._stock()
        before, size = current(self.state), self.application.size()
        self.application.plan(
            reload_s=cut.reload_s,
            health_s=cut.health_s,
            accepted=(before or "",) if cut.refuses else ("any",),
        )
        commands = (*cut.commands, ("ping", {}))
        if cut.by_hand:
            self.stop()
            self._by_hand(*cut.commands[0])
            commands = ()
        ids = [self._send(kind, arguments) for kind, arguments in commands]
        self._await(cut.aim, size, ids)
        time.sleep(cut.delay_s)
        self._fail(stop=cut.stop)
        if cut.by_hand and not pending(self.config):
            before = current(self.state)  # done before the cut, or not begun
        if cut.by_hand:
            self._earlier |= self._runs()  # shown to the person, not published
        for again_s in cut.again_s:
            self.counts.repeated += 1
            size = self.application.size()
            self.start()
            if again_s < 0:
                self._await("reload", size, ids)
            time.sleep(abs(again_s))
            self._fail()
        heard = len(self.console.heard)
        begin = time.monotonic()
        self.start()
        self._until(lambda: self._online(heard), "the daemon did not come online")
        self.counts.slowest_start_s = max(self.counts.slowest_start_s, time.monotonic() - begin)
        self._until(lambda: all(map(self._ends, ids)), f"not answered: {ids}")
        self._until(self._idle, "the daemon does not become idle")
        self._check(before, dict(zip(ids, commands[:-1], strict=False)), cut.by_hand)

    def _fail(self, *, stop: bool = False) -> None:
        if stop:
            self.stop()
            self.counts.stops += 1
        else:
            self.cut()
            self.counts.cuts += 1
            self.counts.in_switch += pending(self.config) is not None
        if trouble := incomplete(self.state):
            self._fault("whole", trouble)

    def _by_hand(self, kind: str, arguments: dict[str, Any]) -> None:
        verb = {"activate": "activate", "rollback": "rollback", "reoptimize": "optimize"}[kind]
        release = [self._release(arguments["release"])] if kind == "activate" else []
        self.start(verb, *release)

    def _release(self, number: int) -> str:
        ids = _releases(self.config).ids()
        return ids[number % len(ids)]  # type: ignore[no-any-return]

    def _send(self, kind: str, arguments: dict[str, Any]) -> str:
        self._sent += 1
        name = f"c{self._sent}"
        if "release" in arguments:
            arguments["release"] = self._release(arguments["release"])
        self.console.command(name, {"type": kind, "args": arguments})
        return name

    def _await(self, aim: str, size: int, ids: list[str]) -> None:
        """Wait for a step of an activation, in vain if the commands lead to none."""
        link, intent = self.state / "current", self.state / "activation.json"

        def stamp() -> tuple[object, ...]:
            with contextlib.suppress(OSError):
                if aim == "link":
                    return (link.readlink(),)
                found = intent.stat()
                return found.st_ino, found.st_mtime_ns
            return ()

        def happened() -> bool:
            seen = [one.what for one in self.application.seen(size)]
            if aim == "end":
                return "healthy" in seen or "refused" in seen
            if aim == "back":
                return "refused" in seen and "reload" in seen[seen.index("refused") :]
            return aim in seen

        if aim == "time":
            return
        before = stamp()
        deadline = time.monotonic() + _NO_WINDOW_S
        assert self._process is not None
        while time.monotonic() < deadline and self._process.poll() is None:
            if ids and all(map(self._ends, ids)):
                return
            if stamp() != before if aim in {"link", "intent"} else happened():
                return
            time.sleep(0.001)

    def _until(self, reached: Callable[[], bool], trouble: str) -> None:
        deadline = time.monotonic() + _SETTLE_S
        while not reached():
            if time.monotonic() > deadline:
                self._fault("up", trouble)
                raise AssertionError("\n".join(map(str, self.faults)))
            time.sleep(0.02)

    # What was heard -----------------------------------------------------------------------------

    def _online(self, begin: int) -> bool:
        return any(
            kind == "state" and message["status"] == "online"
            for kind, message, _ in self.console.heard[begin:]
        )

    def _idle(self) -> bool:
        states = [m for kind, m, _ in self.console.heard if kind == "state" and not m["will"]]
        return states[-1]["status"] == "online" and states[-1]["job"] is None

    def _ends(self, command: str) -> dict[tuple[str, int], dict[str, Any]]:
        """Return the final answers to a command, by stage and version; repeats are one."""
        return {
            (message["stage"], message["version"]): message
            for kind, message, _ in list(self.console.heard)
            if kind == f"res/{command}" and message["stage"] in _ENDS
        }

    def _reported(self) -> set[str]:
        heard = [m for kind, m, _ in list(self.console.heard) if kind == "report/small"]
        return {message["report"]["run_id"] for message in heard}

    # What must be true --------------------------------------------------------------------------

    def _check(
        self, before: str | None, commands: dict[str, tuple[str, dict[str, Any]]], by_hand: bool
    ) -> None:
        seen = self.application.seen()
        for one in seen:
            if one.what == "refused":
                self._refused.add(one.release)
            elif one.what == "healthy":
                self._refused.discard(one.release)
        self.counts.commands += len(commands)
        expected, left = before, self._left_behind() - self._earlier_left
        rolled_back = sum(kind == "rollback" for kind, _ in commands.values()) or by_hand
        if len(left) > rolled_back:
            self._fault("ended", f"{rolled_back} rollbacks left {sorted(left)}")
        self._earlier_left |= left
        for name, (kind, arguments) in commands.items():
            ends = self._ends(name)
            if len(ends) != 1:
                self._fault("ended", f"{name} {kind} ended {len(ends)} times: {sorted(ends)}")
            expected = self._after(expected, kind, arguments, list(ends.values())[-1])
        now = current(self.state)
        self.counts.reloads = sum(one.what == "reload" for one in seen)
        if now != expected:
            answers = {name: list(self._ends(name).values()) for name in commands}
            self._fault("ended", f"current is {now}, by the answers {expected}: {answers}")
        if trouble := incomplete(self.state):
            self._fault("whole", trouble)
        if seen and self.application.given() != (now, now):
            self._fault(
                "loaded", f"current is {now}, the application was given {self.application.given()}"
            )
            self.application.give(now or "")
        if pending(self.config):
            self._fault("tidy", "an intent was left")
        if left := leftovers(self.state):
            self._fault("tidy", f"left in storage.dir: {left}")
            _remove(self.state, left)
        if not self._soon(lambda: not self._abandoned()):
            self._fault("tidy", f"left in the folder for temporary files: {self._abandoned()}")
            _remove(self.folder / "tmp", self._abandoned())
        self._soon(lambda: not self._unreported())
        if unheard := self._unreported():
            self._fault("reported", f"reports never delivered: {sorted(unheard)}")
            self._earlier |= unheard

    def _soon(self, reached: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + 10
        while not reached() and time.monotonic() < deadline:
            time.sleep(0.05)
        return reached()

    def _abandoned(self) -> list[str]:
        """Return the job folders that no process uses; the daemon may be at a look at the release."""
        found = []
        for folder in (self.folder / "tmp").iterdir():
            with contextlib.suppress(OSError):
                handle = os.open(folder, os.O_RDONLY)
                try:
                    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    found.append(folder.name)
                finally:
                    os.close(handle)
        return found

    def _unreported(self) -> set[str]:
        return self._runs() - self._earlier - self._reported()

    def _after(
        self, before: str | None, kind: str, arguments: dict[str, Any], answer: dict[str, Any]
    ) -> str | None:
        """Return the active release that a command must have left, by its answer."""
        if answer["stage"] != "SUCCEEDED":
            return before
        if kind == "activate":
            return str(arguments["release"])
        if kind == "reoptimize":
            report = json.loads(Path(answer["result_ref"], "report.json").read_bytes())
            state = report["activation"]["state"]
            return report["run_id"] if state == "active" else before  # type: ignore[no-any-return]
        known = _releases(self.config).ids()
        words = answer["reason"]["detail"].replace(":", " ").replace(",", " ").split()
        found = [word for word in words if word in known]
        target = found[0] if found else None
        if target in self._refused:
            self._fault("ended", f"rolled back to {target}, which was refused")
        return target

    def _runs(self) -> set[str]:
        return {path.parent.name for path in self.state.glob("runs/*/report.json")}

    def _left_behind(self) -> set[str]:
        marks = _releases(self.config).marks().items()
        return {one for one, mark in marks if mark.reason.startswith("rolled back from")}

    def _fault(self, promise: str, seen: str) -> None:
        self.faults.append(Fault(promise, f"{self._round}: {seen}"))

    def _stock(self) -> None:
        """See to it that there are releases to switch between: copies of the active one."""
        releases = _releases(self.config)
        active = current(self.state)
        assert active is not None
        while len(set(releases.ids()) - self._refused) < _STOCK:
            copied(self.config, active)


def _releases(config: Path) -> Any:
    return storage.releases(configuration.load(config))


def _remove(folder: Path, names: list[str]) -> None:
    for name in names:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextlib.contextmanager
def device(folder: Path, broker: Broker) -> Iterator[Device]:
    """Yield a device with its first release active and its daemon online."""
    (folder / "tmp").mkdir()
    application = Application(folder / "application", folder / "state" / "current")
    config = write_config(
        folder,
        mqtt={"host": broker.host, "port": broker.port},
        commands={"require_signature": False},
        search={"precisions": ["fp32"]},
        measure={"warmup_s": 0.0, "duration_s": 0.1, "rounds": 1},
        activation={**application.commands, "health_timeout_s": 10.0, "keep": 6},
    )
    done = quantd("optimize", "-c", config, "--json")
    assert done.returncode == 0, done.stderr
    with Console(broker.host, broker.port, DEVICE) as console:
        found = Device(folder=folder, console=console, config=config, application=application)
        found.start()
        try:
            console.wait("state", lambda m: m["status"] == "online")
            yield found
        finally:
            found.cut()


def series(found: Device, seed: int, cuts: int) -> None:
    """Cut a device's power at least so many times, in rounds drawn from the seed."""
    number = 0
    while found.counts.cuts < cuts:
        number += 1
        found.round(f"seed {seed} round {number}", drawn(random.Random(f"{seed} {number}")))
