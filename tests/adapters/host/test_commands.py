"""A user's command: it may start what stays, hang with its children, or talk without end."""

from __future__ import annotations

import threading
import time

import psutil
import pytest

from agent.adapters.host.commands import command_output, run_command
from agent.core.errors import JobError


def shell(script: str, timeout_s: float = 10.0, cancelled=None):
    return run_command(
        ("sh", "-c", script), timeout_s, {"GREETING": "hello"}, cancelled or threading.Event()
    )


def test_how_it_ended_and_its_last_output_are_returned():
    done = shell('echo "$GREETING"; echo not ready >&2; exit 4')
    assert (done.status, done.output) == (4, "hello\nnot ready\n")
    assert shell("kill -9 $$").status == -9
    assert run_command(("/no/such/program",), 1.0, {}, threading.Event()).status == 127


def test_output_that_is_no_text_is_returned_all_the_same():
    assert command_output("printf", "NV Power Mode: 15W\\n\\377") == "NV Power Mode: 15W\n\ufffd"


@pytest.mark.slow
def test_an_application_that_it_starts_may_stay_and_keep_its_output():
    done = shell("sleep 15 & echo $!")
    assert done.status == 0
    application = psutil.Process(int(done.output))
    assert application.is_running()
    application.kill()


@pytest.mark.slow
def test_one_that_hangs_is_ended_with_all_that_it_started():
    done = shell("sleep 60 & echo $!; sleep 60", 0.5)
    assert done.status is None
    gone(int(done.output))


def gone(child: int) -> None:
    deadline_s = time.monotonic() + 5
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("ignored", ["", "trap '' TERM; "])
def test_a_cancelled_one_ends_with_all_that_it_started(tmp_path, ignored):
    note = tmp_path / "children"
    cancelled = threading.Event()

    def cancel() -> None:
        deadline_s = time.monotonic() + 10
        while not (note.exists() and note.read_text().endswith("\n")):
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        cancelled.set()

    canceling = threading.Thread(target=cancel)
    canceling.start()
    with pytest.raises(JobError) as caught:
        shell(f"{ignored}sleep 900 & echo $! > {note}; sleep 900; sleep 900", 900.0, cancelled)
    canceling.join()
    assert caught.value.code == "canceled"
    gone(int(note.read_text()))


def test_none_is_started_once_it_is_cancelled(tmp_path):
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(JobError):
        shell(f"touch {tmp_path}/started", cancelled=cancelled)
    assert not (tmp_path / "started").exists()


@pytest.mark.slow
def test_one_that_talks_without_end_costs_no_memory():
    before = psutil.Process().memory_info().rss
    done = shell("yes not ready", 2.0)
    assert done.status is None
    assert len(done.output) == 4096
    assert psutil.Process().memory_info().rss - before < 50 << 20
