"""What a child says, and what is made of a child that dies while it says it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from agent.adapters.jobs_subprocess import SubprocessJobs, _end, _follow
from agent.core.errors import JobError


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
    told = []
    script = (
        """os.write(1, b'{"progress": [1, 2, "half"]}\\n{"progress": [2, 2, "ful')\n"""
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    with pytest.raises(JobError, match="killed by SIGKILL") as caught:
        followed(script, lambda *step: told.append(step))
    assert caught.value.code == "died"
    assert told == [(1, 2, "half")]


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

    monkeypatch.setattr("agent.adapters.jobs_subprocess._follow", other)
    with pytest.raises(JobError, match="render: its result"):
        SubprocessJobs(0).run(
            "render", {}, str, progress=print, cancelled=threading.Event(), timeout_s=5
        )


_LEFT_BEHIND = """
import subprocess
subprocess.Popen(["sleep", "15"], start_new_session=True)
"""


@pytest.mark.parametrize("how", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_what_a_child_left_behind_with_its_output_open_holds_up_nobody(how):
    """The end of the output is not the end of the child."""
    script = f"""{_LEFT_BEHIND}os.write(1, b'{{"result": 1}}\\n'); {how}"""
    begin_s = time.monotonic()
    assert bytes(followed(script)) == b"1"
    assert time.monotonic() - begin_s < 12


def test_a_child_ended_for_its_time_with_its_output_open_elsewhere_holds_up_nobody():
    begin_s = time.monotonic()
    with pytest.raises(JobError) as caught:
        followed(f"{_LEFT_BEHIND}import time; time.sleep(15)", timeout_s=1)
    assert caught.value.code == "timed_out"
    assert time.monotonic() - begin_s < 12


@pytest.mark.slow
def test_measuring_is_ended_by_its_silence_and_not_by_how_long_it_takes():
    """Slow engines take as long as they take, and tell each second that they do."""
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
