"""How the end of the work is logged and posted."""

from __future__ import annotations

import logging

import pytest

from agent.core.control.command import Stage
from agent.core.control.events import Ended, Work
from agent.core.control.requests import RollBack
from agent.core.errors import JobError
from agent.daemon.worker import Worker
from tests.fakes.runners import FakeClock


@pytest.mark.parametrize(
    ("code", "level", "event", "stage"),
    [
        ("canceled", logging.INFO, "work_canceled", Stage.CANCELED),
        ("timed_out", logging.ERROR, "work_failed", Stage.TIMED_OUT),
        ("died", logging.ERROR, "work_failed", Stage.FAILED),
    ],
)
def test_work_that_was_asked_to_end_is_no_error(caplog, code, level, event, stage):
    """SIGTERM during a run logged ERROR work_failed, and alarmed operators at each restart."""

    def perform(*_, **__):
        raise JobError("quantize: ended", code=code)

    caplog.set_level(logging.INFO)
    posted = []
    worker = Worker(perform=perform, post=posted.append, clock=FakeClock())
    worker.begin(Work(task=RollBack(), run_id="r1", trigger="manual"))
    assert worker.join(10)
    (record,) = caplog.records
    assert (record.levelno, record.message) == (
        level,
        f"{event} run_id=r1 code={code} quantize: ended",
    )
    (ended,) = posted
    assert isinstance(ended, Ended)
    assert (ended.stage, ended.code) == (stage, code)
