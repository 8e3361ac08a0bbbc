"""A user's command: it may start what stays, hang with its children, or talk without end."""

from __future__ import annotations

import time

import psutil
import pytest

from agent.adapters.host.commands import run_command


def shell(script: str, timeout_s: float = 10.0):
    return run_command(("sh", "-c", script), timeout_s, {"GREETING": "hello"})


def test_how_it_ended_and_its_last_output_are_returned():
    done = shell('echo "$GREETING"; echo not ready >&2; exit 4')
    assert (done.status, done.output) == (4, "hello\nnot ready\n")
    assert shell("kill -9 $$").status == -9
    assert run_command(("/no/such/program",), 1.0, {}).status == 127


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
    child = int(done.output)
    deadline_s = time.monotonic() + 5
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.mark.slow
def test_one_that_talks_without_end_costs_no_memory():
    before = psutil.Process().memory_info().rss
    done = shell("yes not ready", 2.0)
    assert done.status is None
    assert len(done.output) == 4096
    assert psutil.Process().memory_info().rss - before < 50 << 20
