"""The threat model names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_test_that_the_threat_model_names_exists():
    text = (ROOT / "agent/SECURITY.md").read_text("utf-8")
    files = set(re.findall(r"`(tests/[\w/.]+)`", text))
    assert len(files) > 8
    assert not [one for one in files if not (ROOT / one).is_file()]
