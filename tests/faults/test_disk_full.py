"""A file system that is really full: an error with a hint, nothing half-written, and the next run works."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from agent import config as configuration
from agent.adapters.storage.journal import SqliteJournal
from agent.adapters.storage.releases import FileReleases
from agent.adapters.storage.store import FileStore
from agent.core.errors import StoreError
from agent.core.records import Activation, digest_of
from agent.run.artifacts import Observe
from agent.wiring import runs, storage
from tests.support.broker import any_broker
from tests.support.fleet import Console, DaemonProcess
from tests.support.in_process import optimize
from tests.support.polling import until
from tests.support.scene import quantd, write_config
from tests.support.small_disk import Disk, small_disk

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "state") as found:
        yield found


def small(tmp_path: Path, *more: str, **tables: dict[str, object]) -> Path:
    search = {"precisions": ["fp32", *more], "calibrators": ["minmax"]}
    return write_config(tmp_path, search=search, **tables)


def test_a_switch_can_end_and_be_undone_on_a_full_disk(disk: Disk) -> None:
    releases = FileReleases(str(disk.place))
    for release in ("r1", "r2"):
        releases.create(release, {"model.json": b"{}"})
    releases.intend("run-1", "r1", None)
    releases.switch("r1")
    disk.fill()
    releases.mark("r1", good=True)  # is lost, and no reason to undo the switch
    done = Activation(state="active", release="r1", previous=None)
    releases.finish(done, keep=3)
    assert (releases.current(), releases.settled("run-1")) == ("r1", done)
    releases.intend("run-2", "r2", "r1")
    releases.switch("r2")
    releases.refuse("sick")
    begun = releases.pending()
    assert begun is not None
    assert (begun.release, begun.trouble) == ("r2", "sick")
    releases.switch("r1")
    assert releases.settled("run-1") == done


def whole(state: Path) -> None:
    """Nothing half-written is seen: every artifact can be read, and there is no other folder."""
    for folder in (state / "artifacts").iterdir():
        kept = json.loads((folder / "record.json").read_bytes())
        for name, size in kept["files"].items():
            assert (folder / name).stat().st_size == size


@pytest.mark.parametrize(
    "stage",
    [
        "capture",
        *(
            pytest.param(stage, marks=pytest.mark.faults)
            for stage in ("statistics", "quantize", "build")
        ),
    ],
)
def test_a_full_disk_ends_the_run_and_the_next_one_continues(
    tmp_path: Path, disk: Disk, stage: str
) -> None:
    int8 = ("int8",) if stage in {"statistics", "quantize"} else ()
    config = configuration.load(small(tmp_path, *int8))
    stages = []

    def observe(seen: str, *_: object) -> None:
        if seen == stage and stage not in stages:
            disk.fill()
        stages.append(seen)

    def run(watch: Observe) -> runs.Finished:
        return optimize(config, watch, run_id="r1")

    with pytest.raises(StoreError, match=r"the disk is full \(\d+\.\d MB free\)") as caught:
        run(observe)
    assert caught.value.code == "disk_full"
    assert caught.value.message.startswith(f"{stage}: ")
    assert "needs more than" in caught.value.message
    assert "free some space" in caught.value.hint
    whole(disk.place)
    assert not (disk.place / "current").is_symlink()
    disk.clear()
    finished = run(lambda *_: None)
    assert finished.report.activation.state == "active"
    if stage == "build":
        assert "capture" not in finished.report.timings_s


@pytest.mark.faults
def test_room_is_made_of_what_nothing_needs(tmp_path: Path, disk: Disk) -> None:
    config = configuration.load(small(tmp_path))
    first = optimize(config)
    store = FileStore(str(disk.place))
    old = digest_of("an earlier engine")
    with store.stage(old) as work:
        Path(work, "engine.plan").write_bytes(bytes(4_000_000))
        store.keep(old, work, {"a": 1})
    filled = []

    def observe(stage: str, *_: object) -> None:
        if stage == "capture" and not filled:
            filled.append(disk.fill())

    again = optimize(config, observe)
    assert filled
    assert again.report.activation.state in {"active", "unchanged"}
    assert store.get(old, dict) is None
    lineage = json.loads((disk.place / "releases" / first.report.run_id / "model.json")
                         .read_bytes())["lineage"]  # fmt: skip
    for name, digest in lineage.items():
        if digest and name != "model_sha256":
            assert Path(store.directory(digest)).is_dir(), name


@contextlib.contextmanager
def online(tmp_path: Path, **tables: dict[str, object]) -> Iterator[tuple[Path, Console]]:
    """Yield the configuration of a device with a broker, and its operator."""
    with any_broker(tmp_path) as broker, Console(broker.host, broker.port, "cam-1") as console:
        mqtt = {"host": broker.host, "port": broker.port}
        yield small(tmp_path, mqtt=mqtt, commands={"require_signature": False}, **tables), console


def remount(disk: Disk, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk.place)], check=True)


def test_a_journal_that_a_full_or_read_only_disk_does_not_let_be_opened_has_that_code(
    disk: Disk,
) -> None:
    file = str(disk.place / "state.db")
    SqliteJournal(file).close()
    disk.fill()
    with pytest.raises(StoreError) as caught:
        SqliteJournal(file)  # SQLite's own words are "disk I/O error"
    assert caught.value.code == "disk_full"
    assert "free some space" in caught.value.hint
    disk.clear()
    remount(disk, "ro")
    with SqliteJournal(file) as journal:
        with pytest.raises(StoreError, match="readonly") as caught:
            journal.next("a")
        assert caught.value.code == "read_only"
        assert "read-only" in caught.value.hint
    remount(disk, "rw")
    with SqliteJournal(file) as journal:
        assert journal.next("a") == 1


def test_a_daemon_that_starts_on_a_full_disk_waits_for_space(tmp_path: Path, disk: Disk) -> None:
    with (
        online(tmp_path) as (config, console),
        Listener(tmp_path) as status,
    ):
        with DaemonProcess(config) as daemon:
            console.wait("state", lambda m: m["status"] == "online")
            assert daemon.stop() == 0
        disk.fill()
        with DaemonProcess(config, NOTIFY_SOCKET=status.address) as daemon:
            status.wait("STATUS=waiting: ")
            status.wait("STATUS=waiting: ")  # again, so it has tried again
            assert daemon.process is not None
            assert daemon.process.poll() is None
            assert not any("READY=1" in line for line in status.heard)
            disk.clear()
            status.wait("READY=1")
            console.command("p1", {"type": "ping"})
            assert console.result("p1")["stage"] == "SUCCEEDED"
            assert daemon.stop() == 0
    log = (tmp_path / "daemon.log").read_text()
    assert log.count("journal_waits code=disk_full") == 1
    assert "permissions" not in log


class Listener:
    """The service manager's end of the notification socket."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(30)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def wait(self, text: str) -> None:
        while True:
            self.heard.append(self._socket.recv(4096).decode())
            if text in self.heard[-1]:
                return


@contextlib.contextmanager
def locked(disk: Disk) -> Iterator[None]:
    other = sqlite3.connect(disk.place / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.close()


@contextlib.contextmanager
def full(disk: Disk) -> Iterator[None]:
    disk.fill()
    yield
    disk.clear()


@pytest.mark.parametrize("closed", [full, locked])
def test_what_arrives_while_the_journal_can_not_be_written_is_answered_when_it_can(
    tmp_path: Path, disk: Disk, closed: Callable[[Disk], AbstractContextManager[None]]
) -> None:
    with online(tmp_path) as (config, console):
        with DaemonProcess(config) as daemon:
            console.wait("state", lambda m: m["status"] == "online")
            with closed(disk):
                for number in range(30):
                    console.command(f"p{number}", {"type": "ping"})
                daemon.until_logged("journal_failed")
            for number in range(30, 40):
                console.command(f"p{number}", {"type": "ping"})
            for number in range(40):
                assert console.result(f"p{number}")["stage"] == "SUCCEEDED"
            console.wait("event", lambda m: m["kind"] == "journal_works_again")
            assert daemon.stop() == 0
        log = daemon.log.read_text()
        assert log.count("journal_failed") == log.count("journal_works_again") == 1


@pytest.mark.faults
@pytest.mark.parametrize("command", ["reload", "health"])
def test_the_answer_to_a_switch_in_which_the_disk_becomes_full_is_true(
    tmp_path: Path, disk: Disk, command: str
) -> None:
    """Whichever release it is: the answer, `current` and the application agree on it."""
    fill = 'echo "$QUANTD_RELEASE" >> "$0"; [ -e "$0.fill" ] && cat /dev/zero > "$1/filler"; true'
    script = ["sh", "-c", fill, str(tmp_path / command), str(disk.place)]
    with online(
        tmp_path,
        activation={
            "reload": ["sh", "-c", 'echo "$QUANTD_RELEASE" > "$0"', str(tmp_path / "loaded")],
            command: script,
        },
    ) as (config, console):
        made = quantd("optimize", "-c", config)
        assert made.returncode == 0, made.stderr
        first = (disk.place / "current").resolve()
        other = "20260101T000000000-abcd"
        shutil.copytree(first, first.parent / other)
        with DaemonProcess(config) as daemon:
            console.wait("state", lambda m: m["status"] == "online")
            (tmp_path / f"{command}.fill").touch()
            console.command("c1", {"type": "activate", "args": {"release": other}})
            daemon.until_logged("journal_failed")
            (tmp_path / f"{command}.fill").unlink()
            disk.clear()
            result = console.result("c1")
            active = (disk.place / "current").readlink().name
            assert (result["stage"] == "SUCCEEDED") == (active == other)
            assert (tmp_path / command).read_text().split()[-1] == active
            assert storage.releases(configuration.load(config)).pending() is None
            assert daemon.stop() == 0


@pytest.mark.faults
def test_the_report_of_a_switch_is_written_when_there_is_space(tmp_path: Path, disk: Disk) -> None:
    with online(tmp_path) as (config, console), DaemonProcess(config) as daemon:
        console.wait("state", lambda m: m["status"] == "online")
        console.command("c1", {"type": "reoptimize"})
        ledger = disk.place / "activation.json"
        until(lambda: ledger.exists() and json.loads(ledger.read_bytes())["state"] == "active")
        disk.fill()
        daemon.until_logged("journal_failed")
        disk.clear()
        assert console.result("c1")["stage"] == "SUCCEEDED"
        report = console.wait("report/small", lambda _: True)["report"]
        assert report["activation"]["state"] == "active"
        assert report["run_id"] == (disk.place / "current").readlink().name
        assert daemon.stop() == 0


def test_the_daemon_outlives_a_full_disk(tmp_path: Path, disk: Disk) -> None:
    with online(
        tmp_path,
        calibration={"window_s": 3.0},
    ) as (config, console):
        with DaemonProcess(config):
            console.wait("state", lambda m: m["status"] == "online")
            console.command("c1", {"type": "reoptimize"})
            console.wait("res/c1", lambda m: (m["progress"] or {}).get("step") == "capture")
            disk.fill()
            deadline = threading.Event()
            while not (events := [m for k, m, _ in console.heard if k == "event"
                                and m["kind"] == "optimize_ended"]):  # fmt: skip
                if b"work_failed" in (tmp_path / "daemon.log").read_bytes():
                    break
                deadline.wait(0.1)
            disk.clear()
            console.command("p1", {"type": "ping"})
            assert console.result("p1")["stage"] == "SUCCEEDED"
            console.command("c2", {"type": "reoptimize"})
            assert console.result("c2")["stage"] == "SUCCEEDED"
        assert b"code=disk_full" in (tmp_path / "daemon.log").read_bytes(), events
