"""Hostile bytes from everywhere: refused with a code each, without a crash, in bounded memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hostile_runs import commands_survived, daemon_survived

CASES = 400


def test_hostile_commands_are_refused_each_with_its_code(tmp_path: Path) -> None:
    codes = commands_survived(tmp_path, seed=2, cases=CASES)
    assert codes["Command"] == 0  # all unsigned or forged
    assert codes["NoneType"] < CASES / 2
    assert set(codes) - {"NoneType"} <= {"bad_signature", "too_large"}


def test_hostile_commands_without_signatures_are_decoded_without_a_crash(tmp_path: Path) -> None:
    codes = commands_survived(tmp_path, seed=1, cases=CASES)
    assert codes["Command"] > 0
    assert {"bad_json", "unsupported", "bad_signature"} <= set(codes)


@pytest.mark.slow
def test_a_hostile_broker_neither_ends_the_daemon_nor_fills_it(tmp_path: Path) -> None:
    found = daemon_survived(tmp_path, seed=1, packets=CASES)
    assert found.packets >= CASES
    assert found.answered
    assert found.peak_mb < 60


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("seed", range(2, 5))
def test_hostile_input_at_length(tmp_path: Path, seed: int) -> None:
    commands_survived(tmp_path, seed=seed, cases=3_000)
    found = daemon_survived(tmp_path, seed=seed, packets=1_500)
    assert found.answered
    assert found.peak_mb < 60
