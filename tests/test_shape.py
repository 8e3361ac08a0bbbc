"""What keeps the code easy to find one's way in."""

from __future__ import annotations

from pathlib import Path

_MOST_LINES = 350

SOURCES = sorted(Path(__file__).parents[1].glob("agent/**/*.py"))


def test_no_file_grows_beyond_what_one_reads_at_a_time():
    long = {
        str(file): n for file in SOURCES if (n := len(file.read_text().splitlines())) > _MOST_LINES
    }
    assert not long, "split these by subject"
    assert len(SOURCES) > 150
