"""A job ends with its parent, at whatever moment that is, and leaves no folder for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from agent.adapters.host.jobs import SubprocessJobs
from agent.config import Config
from agent.core.errors import JobError
from agent.wire.jobs import FindSensor

_PARENT = """
import os, threading
from agent.adapters.host.jobs import SubprocessJobs
from agent.config import Config
from agent.wire.jobs import FindSensor

os.environ["PYTHONPATH"] = {slow!r}  # for the child
args = (FindSensor(config=Config()),)
options = dict(progress=print, cancelled=threading.Event())
threading.Thread(target=SubprocessJobs(0).run, args=args, kwargs=options).start()
"""
_SLOW = """
import pathlib, time
pathlib.Path({begun!r}).touch()
time.sleep(120)
"""


def until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process with a job that takes minutes to import what it needs."""
    for name in ("slow", "tmp"):
        (tmp_path / name).mkdir()
    slow = _SLOW.format(begun=str(tmp_path / "begun"))
    (tmp_path / "slow" / "msgspec.py").write_text(slow)
    process = subprocess.Popen(
        [sys.executable, "-c", _PARENT.format(slow=str(tmp_path / "slow"))],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
    )
    yield process
    process.kill()
    process.wait()


def test_a_job_ends_with_its_parent_while_it_still_imports(
    parent: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    until((tmp_path / "begun").exists)
    (job,) = psutil.Process(parent.pid).children()
    assert job.cmdline()[1:4] == ["-m", "agent", "job"]
    parent.kill()
    parent.wait()
    until(lambda: not job.is_running() or job.status() == psutil.STATUS_ZOMBIE)


def test_a_job_that_begins_after_its_parent_has_ended_does_nothing(tmp_path: Path) -> None:
    """The parent may end before the kernel was asked for the signal."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    spec = tmp_path / "spec.json"
    job = [sys.executable, "-m", "agent", "job", str(spec), str(gone.pid)]
    done = subprocess.run(job, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")


def test_the_folder_of_a_killed_run_is_removed_by_the_next_job(
    parent: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    until((tmp_path / "begun").exists)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (left,) = (tmp_path / "tmp").glob("quantd-job-*")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    for others in (left.exists, lambda: not left.exists()):
        with pytest.raises(JobError):
            SubprocessJobs(0).run(
                FindSensor(config=Config()), progress=print, cancelled=threading.Event()
            )
        assert others(), "a folder in use stays, one of a killed process goes"
        parent.kill()
        parent.wait()
    assert not list((tmp_path / "tmp").iterdir())
