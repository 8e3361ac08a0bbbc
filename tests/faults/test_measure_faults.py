"""A measuring process that is killed in the middle: its candidate is lost, and nothing else."""

from __future__ import annotations

import signal

import psutil
import pytest

from agent import config as configuration
from agent.wiring.reported import read_report
from tests.support.in_process import optimize
from tests.support.scene import write_config

pytestmark = pytest.mark.slow


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_candidate_that_kills_the_measuring_process_is_left_out_and_a_report_is_made(
    tmp_path, number
):
    config = configuration.load(write_config(tmp_path, search={"precisions": ["fp32", "int8"]}))
    killed = []

    def observe(stage: str, _done: int, _total: int, note: str) -> None:
        if stage == "measure" and note.startswith("int8-minmax, p50") and not killed:
            (child,) = psutil.Process().children()
            killed.append(note)
            child.send_signal(number)

    finished = optimize(config, observe)
    assert killed
    report = read_report(finished.directory)
    by_id = {one["id"]: one for one in report["candidates"]}
    assert by_id["int8-minmax"]["measured"] is None
    assert number.name in " ".join(by_id["int8-minmax"]["reasons"])
    assert by_id["fp32"]["measured"]["latency_ms"]["p50"] > 0
    assert by_id["int8-entropy"]["measured"]["latency_ms"]["p50"] > 0
    assert report["choice"]["candidate"] != "int8-minmax"
