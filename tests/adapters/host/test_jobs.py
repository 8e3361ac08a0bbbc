"""The messages of a child, and the errors of one that dies while it writes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.host.jobs import SubprocessJobs, _end, _follow
from agent.core.errors import JobError, StoreError


def followed(script: str, progress=lambda *_: None, kind="build", timeout_s=20.0):
    """Follow a real child that runs a script."""
    child = subprocess.Popen(
        [sys.executable, "-c", f"import os, signal\n{script}"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        return _follow(child, kind, progress, threading.Event(), timeout_s, 0)
    finally:
        _end(child)


def test_a_child_killed_in_the_middle_of_a_line_is_a_killed_child():
    steps = []
    script = (
        """os.write(1, b'{"progress": [1, 2, "half"]}\\n{"progress": [2, 2, "ful')\n"""
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    with pytest.raises(JobError, match="killed by SIGKILL") as caught:
        followed(script, lambda *step: steps.append(step))
    assert caught.value.code == "died"
    assert steps == [(1, 2, "half")]


@pytest.mark.parametrize(
    "line", ["no json", "[1]", '{"progress": "x"}', "\\xff\\xfe", '{"progress": [1, 2]}']
)
def test_a_line_that_is_no_message_is_an_error_of_the_job(line):
    with pytest.raises(JobError, match="build: it said what is no message") as caught:
        followed(f"os.write(1, b'{line}\\n')")
    assert caught.value.code == "died"


def test_a_result_that_is_not_what_was_asked_for_is_an_error_of_the_job(monkeypatch):
    def other(child, *_):
        child.stdout.close()
        return b'{"a": 1}'

    monkeypatch.setattr("agent.adapters.host.jobs._follow", other)
    with pytest.raises(JobError, match="render: its result"):
        SubprocessJobs(0).run(
            "render", {}, str, progress=print, cancelled=threading.Event(), timeout_s=5
        )


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_a_line_without_an_end_is_not_kept_in_the_daemon():
    with pytest.raises(JobError, match="it said what is no message: b'xxx") as caught:
        followed("for _ in range(300): os.write(1, bytes(1 << 20).replace(bytes(1), b'x'))")
    assert caught.value.code == "died"
    assert tracemalloc.get_traced_memory()[1] < 150e6


@pytest.mark.slow
@pytest.mark.usefixtures("traced")
def test_a_child_that_writes_more_than_is_read_has_to_wait(tmp_path):
    """Output not yet read stays in the pipe, not in the daemon."""
    script = f"""
line = b'{{"progress": [1, 2, "' + b'x' * 1000 + b'"]}}\\n'
for _ in range(50_000):
    os.write(1, line)
open({str(tmp_path / "done")!r}, "w").close()
"""

    def slow(*_: object) -> None:
        end = time.monotonic() + 3
        while time.monotonic() < end and not (tmp_path / "done").exists():
            threading.Event().wait(0.1)
        raise JobError("enough")

    with pytest.raises(JobError, match="enough"):
        followed(script, slow)
    assert not (tmp_path / "done").exists()
    assert tracemalloc.get_traced_memory()[1] < 5e6


def run_job(kind: str = "nothing") -> object:
    return SubprocessJobs(0).run(
        kind, {}, str, progress=print, cancelled=threading.Event(), timeout_s=20
    )


def test_the_temporary_files_of_a_killed_child_are_removed(tmp_path, monkeypatch):
    """A trial of 100 MB, killed in native code, has no other process to remove its graphs."""
    interpreter = tmp_path / "python"
    interpreter.write_text(
        '#!/bin/sh\nmktemp -d > "$(dirname "$0")/made"\nkill -9 $$\n', encoding="utf-8"
    )
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with pytest.raises(JobError, match="SIGKILL"):
        run_job()
    made = Path((tmp_path / "made").read_text().strip())
    assert made.name.startswith("tmp.")
    assert not made.exists()


def test_a_job_that_can_not_begin_is_an_error_of_the_job(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    with pytest.raises(JobError, match="nothing: it can't be started"):
        run_job()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(StoreError, match="No such file"):
        run_job()


_LEFT_BEHIND = """
import subprocess
subprocess.Popen(["sleep", "15"], start_new_session=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_process_left_behind_with_the_output_open_delays_nothing(how):
    """The end of the output is not the end of the child."""
    script = f"""{_LEFT_BEHIND}os.write(1, b'{{"result": 1}}\\n'); {how}"""
    begin_s = time.monotonic()
    assert bytes(followed(script)) == b"1"
    assert time.monotonic() - begin_s < 12


@pytest.mark.slow
def test_a_child_ended_at_its_timeout_with_its_output_open_elsewhere_delays_nothing():
    begin_s = time.monotonic()
    with pytest.raises(JobError) as caught:
        followed(f"{_LEFT_BEHIND}import time; time.sleep(15)", timeout_s=1)
    assert caught.value.code == "timed_out"
    assert time.monotonic() - begin_s < 12


@pytest.mark.slow
def test_measuring_is_ended_by_its_silence_and_not_by_how_long_it_takes():
    """Slow engines take as long as needed, and report each second."""
    talking = """
import time
for _ in range(12):
    os.write(1, b'{"progress": [1, 2, "on"]}\\n')
    time.sleep(0.1)
"""
    done = talking + """os.write(1, b'{"result": 1}\\n')"""
    assert bytes(followed(done, kind="measure", timeout_s=0.8)) == b"1"
    for kind, script in (("build", done), ("measure", f"{talking}time.sleep(9)")):
        with pytest.raises(JobError) as caught:
            followed(script, kind=kind, timeout_s=0.8)
        assert caught.value.code == "timed_out"
        assert ("told nothing" in caught.value.message) is (kind == "measure")
