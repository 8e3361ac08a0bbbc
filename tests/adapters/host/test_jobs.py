"""The messages of a child, and the errors of one that dies while it writes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.host.jobs import ONE_BLAS_THREAD, SubprocessJobs, _end, _follow, _start
from agent.config import Config
from agent.core.errors import JobError, PowerError, QuantdError, StoreError
from agent.ports.jobs import JobSpec
from agent.wire.jobs import FindSensor


class Silent(JobSpec[int]):
    """A job that may take any time while it reports progress."""

    kind = "silent"
    limit_s = 0.8
    ended_by_silence = True


class Short(JobSpec[int]):
    """A job that has to end in time."""

    kind = "short"
    limit_s = 0.8
    slow_hint = "use a faster machine"


class Plain(JobSpec[int]):
    """Any other job."""

    kind = "plain"
    limit_s = 20.0
    memory_hint = "buy some"


def followed(script: str, progress=lambda *_: None, spec=Plain):
    """Follow a real child that runs a script."""
    child = subprocess.Popen(
        [sys.executable, "-c", f"import os, signal\n{script}"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        return _follow(child, spec(), progress, threading.Event(), 0)
    finally:
        _end(child)


def progress_line(note: str, candidate: str = "") -> str:
    line = {"line": "progress", "done": 1, "total": 2, "note": note, "candidate": candidate}
    return json.dumps(line)


def test_a_child_killed_in_the_middle_of_a_line_is_a_killed_child():
    seen = []
    script = f"""os.write(1, {(progress_line("half", "int8, mse") + chr(10) + progress_line("x")[:-3]).encode()!r})
os.kill(os.getpid(), signal.SIGKILL)"""
    with pytest.raises(JobError, match="plain: killed by SIGKILL") as caught:
        followed(script, lambda *step: seen.append(step))
    assert (caught.value.code, "buy some" in caught.value.hint) == ("died", True)
    assert seen == [(1, 2, "half", "int8, mse")]


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[1]",
        b"{}",
        b"\xff\xfe",
        b'{"line": "shutdown"}',
        b'{"line": 1}',
        b'{"line": "progress", "done": 1}',
        b'{"line": "progress", "done": "1", "total": 2, "note": ""}',
        b'{"line": "progress", "done": 1, "total": 2, "note": "", "candidate": null}',
        b'{"line": "progress", "done": 1, "total": 2, "note": "", "candidates": "a"}',
        b'{"line": "result"}',
        b'{"line": "result", "result": 1, "error": "JobError"}',
        b'{"line": "error", "error": "JobError", "code": 7, "message": "m"}',
        b'{"progress": [1, 2, "half"]}',
    ],
)
def test_a_line_that_is_no_message_is_an_error_of_the_job(line):
    with pytest.raises(JobError, match="plain: sent an invalid protocol line") as caught:
        followed(f"os.write(1, {line!r} + bytes([10]))")
    assert caught.value.code == "died"


@pytest.mark.parametrize(
    ("error", "raised"), [("PowerError", PowerError), ("SystemExit", QuantdError)]
)
def test_an_error_of_the_child_is_raised_with_its_class_code_and_hint(error, raised):
    line = json.dumps(
        {"line": "error", "error": error, "code": "gone", "message": "m", "hint": "h"}
    )
    with pytest.raises(QuantdError) as caught:
        followed(f"os.write(1, {line.encode()!r} + bytes([10]))")
    assert type(caught.value) is raised
    assert (caught.value.code, caught.value.message, caught.value.hint) == ("gone", "m", "h")


def run_job() -> object:
    return SubprocessJobs(0).run(
        FindSensor(config=Config()), progress=print, cancelled=threading.Event()
    )


def test_a_result_that_is_not_what_was_asked_for_is_an_error_of_the_job(monkeypatch):
    def other(child, *_):
        child.stdout.close()
        return b'{"a": 1}'

    monkeypatch.setattr("agent.adapters.host.jobs._follow", other)
    with pytest.raises(JobError, match="sensor: its result"):
        run_job()


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_a_line_without_an_end_is_not_kept_in_the_daemon():
    with pytest.raises(JobError, match="sent an invalid protocol line: b'xxx") as caught:
        followed("for _ in range(300): os.write(1, bytes(1 << 20).replace(bytes(1), b'x'))")
    assert caught.value.code == "died"
    assert tracemalloc.get_traced_memory()[1] < 150e6


@pytest.mark.slow
@pytest.mark.usefixtures("traced")
def test_a_child_that_writes_more_than_is_read_has_to_wait(tmp_path):
    """Output not yet read stays in the pipe, not in the daemon."""
    script = f"""
line = {progress_line("x" * 1000).encode()!r} + bytes([10])
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
    with pytest.raises(JobError, match="sensor: it can't be started"):
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
    script = f"""{_LEFT_BEHIND}os.write(1, b'{{"line": "result", "result": 1}}\\n'); {how}"""
    begin_s = time.monotonic()
    assert bytes(followed(script)) == b"1"
    assert time.monotonic() - begin_s < 12


@pytest.mark.slow
def test_a_child_ended_at_its_timeout_with_its_output_open_elsewhere_delays_nothing():
    begin_s = time.monotonic()
    with pytest.raises(JobError) as caught:
        followed(f"{_LEFT_BEHIND}import time; time.sleep(15)", spec=Short)
    assert caught.value.code == "timed_out"
    assert time.monotonic() - begin_s < 12


@pytest.mark.slow
def test_a_job_is_ended_by_its_silence_or_by_how_long_it_takes():
    """Slow engines take as long as they take, and report each second that they still run."""
    talking = f"""
import time
for _ in range(12):
    os.write(1, {progress_line("on").encode()!r} + bytes([10]))
    time.sleep(0.1)
"""
    done = talking + """os.write(1, b'{"line": "result", "result": 1}\\n')"""
    assert bytes(followed(done, spec=Silent)) == b"1"
    for spec, script, late, hint in (
        (Short, done, "short: not finished within 0.8 s", Short.slow_hint),
        (Silent, f"{talking}time.sleep(9)", "silent: no progress for 0.8 s", ""),
    ):
        with pytest.raises(JobError, match=late) as caught:
            followed(script, spec=spec)
        assert (caught.value.code, caught.value.hint) == ("timed_out", hint)


def test_a_job_computes_products_with_one_thread_unless_the_operator_set_another(
    tmp_path, monkeypatch
):
    for name in ONE_BLAS_THREAD:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nenv\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    shown, _ = _start("plain", tmp_path / "spec.json").communicate()
    found = shown.decode().split("\n")
    assert {"OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1", "OMP_NUM_THREADS=3"} <= {*found}
