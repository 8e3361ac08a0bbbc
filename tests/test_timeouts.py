"""A test that takes too long ends, whoever would catch its end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parent / "conftest.py"
ENDLESS = """
from hypothesis import given, strategies as st

@given(st.integers(0, 1))
def test_endless(number):
    while number:
        pass

def test_next():
    pass
"""


@pytest.mark.slow
def test_an_example_that_never_ends_fails_its_test_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "test_it.py").write_text(ENDLESS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "--timeout=3", "test_it.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "1 failed, 1 passed" in done.stdout
    assert "Timeout (>3.0s)" in done.stdout
    assert "while number" in done.stdout  # where it was
