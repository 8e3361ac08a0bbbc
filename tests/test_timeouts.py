"""A test that takes too long ends, even if the exception would be caught."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUTS = Path(__file__).parent / "support" / "timeouts.py"
EXAMPLE = """
from hypothesis import given, strategies as st

@given(st.integers(0, 1))
def test_endless(number):
    while number:
        pass
"""
CHILD = """
import subprocess

def test_endless():
    with subprocess.Popen(["sleep", "60"], stdout=subprocess.PIPE) as child:  # whose exit waits
        child.stdout.readline()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("test", "where"), [(EXAMPLE, "while number"), (CHILD, "readline()")])
def test_what_never_ends_fails_its_test_and_no_other(tmp_path: Path, test: str, where: str) -> None:
    (tmp_path / "conftest.py").write_text(TIMEOUTS.read_text())
    (tmp_path / "test_it.py").write_text(test + "\ndef test_next():\n    pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "--timeout=3", "test_it.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=45,
    )
    assert "1 failed, 1 passed" in done.stdout
    assert "Timeout (>3.0s)" in done.stdout
    assert where in done.stdout
