"""One process at a time per storage directory, whatever ends it; each begins with a recovery."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agent import config as configuration
from agent.config import Config
from agent.core.errors import JobError, PowerError, StoreError
from agent.wiring import storage
from agent.wiring.exclusive import exclusive, only_daemon

FILES = {"model.json": b"{}"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configuration.from_dump({"storage": {"dir": str(tmp_path / "state")}})


def taken(config: Config, what: str = "quantd optimize", **details):
    never = threading.Event()
    details = {"cancelled": never, "stopping": never, "run_id": "r1", **details}
    return exclusive(config, what, **details)


def test_the_second_is_refused_with_the_holder_named(config: Config) -> None:
    with taken(config):
        with pytest.raises(StoreError) as caught, taken(config, wait=False):
            pass
        assert caught.value.code == "locked"
        assert f"`quantd optimize` (process {os.getpid()}, run r1, since" in caught.value.message
    with taken(config, wait=False):
        pass


def test_the_second_waits_says_so_and_has_its_turn(config: Config) -> None:
    waiting, had = threading.Event(), threading.Event()
    holders = []

    def second() -> None:
        def wait(holder: str) -> None:
            holders.append(holder)
            waiting.set()

        with taken(config, "quantd activate", waiting=wait):
            had.set()

    thread = threading.Thread(target=second)
    with taken(config):
        thread.start()
        assert waiting.wait(10)
        assert not had.is_set()
    assert had.wait(10)
    thread.join()
    assert len(holders) == 1
    assert holders[0].startswith("`quantd optimize`")


def test_waiting_can_be_cancelled(config: Config) -> None:
    cancelled = threading.Event()
    second = taken(config, cancelled=cancelled, waiting=lambda _: cancelled.set())
    with taken(config), pytest.raises(JobError) as caught, second:
        pass
    assert caught.value.code == "canceled"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"pid": "x"}'])
def test_a_damaged_file_costs_the_name_of_the_holder_only(config: Config, body: bytes) -> None:
    with taken(config):
        Path(config.storage.dir, "lock").write_bytes(body)
        with pytest.raises(StoreError, match="another process"), taken(config, wait=False):
            pass


def test_a_removed_file_is_made_again(config: Config) -> None:
    with taken(config):
        Path(config.storage.dir, "lock").unlink()
    with taken(config), pytest.raises(StoreError), taken(config, wait=False):
        pass


def test_a_link_in_its_place_is_not_followed(config: Config, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_text("of another user")
    Path(config.storage.dir).mkdir()
    Path(config.storage.dir, "lock").symlink_to(foreign)
    with pytest.raises(StoreError, match="symbolic link"), taken(config):
        pass
    assert foreign.read_text() == "of another user"


def test_a_file_system_without_locks_is_named_as_such(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr("agent.adapters.storage.lock.fcntl.flock", flock)
    with pytest.raises(StoreError) as caught, taken(config):
        pass
    assert caught.value.code == "no_locks"
    assert "can't be locked" in caught.value.message
    with only_daemon(config):  # it starts, and waits for the disk
        pass


def test_a_storage_has_one_daemon_while_others_work_there_in_turn(config: Config) -> None:
    with only_daemon(config), taken(config):
        with pytest.raises(StoreError, match="has a daemon already: `quantd run`") as caught:
            only_daemon(config).__enter__()
        assert caught.value.code == "locked"
    with only_daemon(config):
        pass


_HOLD = """
import subprocess, sys, threading
from agent import config
from agent.wiring.exclusive import exclusive

never = threading.Event()
found = config.from_dump({"storage": {"dir": sys.argv[1]}})
with exclusive(found, "quantd run", cancelled=never, stopping=never):
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, flush=True)
    never.wait()
"""


@pytest.mark.slow
def test_the_lock_ends_with_its_process_though_a_child_survives(config: Config) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, config.storage.dir], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(StoreError, match=f"process {holder.pid}"), taken(config, wait=False):
            pass
        holder.kill()
        holder.wait()
        os.kill(child, 0)
        with taken(config, wait=False):
            pass
    finally:
        holder.kill()
        holder.stdout.close()
        os.kill(child, signal.SIGKILL)


def begun(config: Config) -> None:
    """Leave what a cut in the first reload leaves."""
    releases = storage.releases(config)
    for release in ("r1", "r2"):
        releases.create(release, FILES)
    releases.switch("r1")
    releases.intend("run-r2", "r2", "r1")
    releases.switch("r2")


def noting(config: Config, note: Path, script: str = "") -> Config:
    """Return a configuration with a reload command that notes the release it loads."""
    line = f'echo "$QUANTD_RELEASE" >> {note}; {script}'
    return configuration.from_dump(
        {"storage": {"dir": config.storage.dir}, "activation": {"reload": ["sh", "-c", line]}}
    )


class Modes:
    """A board whose power mode a killed measurement left changed."""

    def __init__(self, error: PowerError | None = None) -> None:
        self.restored = 0
        self._error = error

    def restore(self) -> str:
        self.restored += 1
        if self._error:
            raise self._error
        return "MAXN"


def test_the_power_mode_is_restored_by_the_holder_of_the_lock(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = Modes()
    monkeypatch.setattr("agent.wiring.exclusive.power_modes", lambda _: modes)
    with taken(config):
        assert modes.restored == 1
        with pytest.raises(StoreError), taken(config, wait=False):
            pass
        assert modes.restored == 1  # not in the middle of another's measurement
    assert modes.restored == 2


def test_a_power_mode_that_can_not_be_restored_ends_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    modes = Modes(PowerError("nvpmodel reports no power mode", code="power_mode"))
    monkeypatch.setattr("agent.wiring.exclusive.power_modes", lambda _: modes)
    with taken(config):
        pass
    assert "power_mode_not_restored code=power_mode" in caplog.text


def test_it_begins_with_a_recovery(config: Config, tmp_path: Path) -> None:
    begun(config)
    with taken(noting(config, tmp_path / "loaded")):
        assert storage.releases(config).current() == "r1"
        assert (tmp_path / "loaded").read_text() == "r1\n"
    assert (tmp_path / "loaded").read_text() == "r1\n"


def test_what_is_left_begun_inside_is_undone_at_its_end(config: Config, tmp_path: Path) -> None:
    with taken(noting(config, tmp_path / "loaded")):
        begun(config)
    assert storage.releases(config).current() == "r1"
    assert storage.releases(config).pending() is None
    assert (tmp_path / "loaded").read_text() == "r1\n"


def test_a_stop_does_not_wait_for_a_recovery(config: Config, tmp_path: Path) -> None:
    begun(config)
    stopping, note = threading.Event(), tmp_path / "loaded"

    def stop() -> None:
        deadline_s = time.monotonic() + 10
        while not note.exists() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        stopping.set()

    thread = threading.Thread(target=stop)
    thread.start()
    begin_s = time.monotonic()
    with pytest.raises(JobError), taken(noting(config, note, "sleep 60"), stopping=stopping):
        pytest.fail("it went on without a recovery")
    thread.join()
    assert time.monotonic() - begin_s < 20
    assert storage.releases(config).current() == "r1"
    assert storage.releases(config).pending() is not None
    ledger = json.loads(Path(config.storage.dir, "activation.json").read_bytes())
    assert ledger["state"] == "begun"
