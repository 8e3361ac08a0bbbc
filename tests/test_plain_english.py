"""Words that make a second reading necessary: each may only become rarer.

A docstring names the thing and its unit, a comment gives the reason. Candidates, functions and
files are neither told anything nor somebody; they are given, returned, reported, compared.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Wrong for what computes or is computed. Lower a number when a word has become rarer.
WRONG = {
    "told": 8,
    "tell": 0,
    "tells": 0,
    "telling": 0,
    "nobody": 1,
    "everybody": 0,
    "somebody": 0,
    "anybody": 0,
    "whoever": 0,
    "anew": 0,
    "afresh": 0,
    "who": 0,
    "whom": 0,
    "merit": 0,
    "lest": 0,
    "wherever": 0,
    "klass": 8,
    "legible": 0,
    "glance": 0,
    "rehearse": 0,
    "rehearsal": 0,
    "sitting": 0,
    "spares": 0,
}
# Often a stand-in for contain, keep, be valid, report, allow or continue, sometimes right.
VAGUE = {
    "say": 7,
    "says": 7,
    "said": 0,
    "saying": 0,
    "hold": 10,
    "holds": 7,
    "held": 56,
    "let": 0,
    "lets": 0,
    "go": 13,
    "goes": 7,
    "gone": 10,
    "whose": 43,
}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")  # inside snake_case and CamelCase as well
_SUFFIXES = {".py", ".md", ".j2", ".toml", ".json", ".yaml"}


def test_words_are_found_in_prose_and_inside_names():
    found = list(_words("as_told(WhoKnows)\n# NOBODY: retold, whole"))
    assert {("told", 1), ("who", 1), ("nobody", 2)} <= set(found)
    assert not {("told", 2), ("who", 2)} & set(found)


@pytest.mark.parametrize(("word", "most"), (WRONG | VAGUE).items())
def test_a_word_only_becomes_rarer(word: str, most: int, places: dict[str, list[str]]):
    found = places[word]
    where = "\n".join(found)
    assert len(found) <= most, f"say it plainly, without {word!r}:\n{where}"


@pytest.fixture(scope="module")
def places() -> dict[str, list[str]]:
    """Return, for each word, where it stands: file:line."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, text in _texts():
        for word, line in _words(text):
            found[word].append(f"{name}:{line}")
    return found


def _texts() -> Iterator[tuple[str, str]]:
    folders = [file for folder in ("agent", "configs") for file in (ROOT / folder).rglob("*")]
    for file in sorted([*folders, ROOT / "README.md"]):
        if file.suffix in _SUFFIXES:
            yield str(file.relative_to(ROOT)), file.read_text("utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    yield "CHANGELOG.md", re.split(r"^## \[(?!Unreleased)", changes, maxsplit=1, flags=re.M)[0]


def _words(text: str) -> Iterator[tuple[str, int]]:
    for number, line in enumerate(text.splitlines(), start=1):
        for match in _WORD.finditer(line):
            yield match.group().lower(), number
