"""The names of the classes, in the configuration or in a file of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import config as configuration
from agent.core.errors import ConfigError


def load(tmp_path: Path, names: str, kind: str = "classification") -> configuration.Config:
    path = tmp_path / "quantd.toml"
    path.write_text(f'[model.task]\nkind = "{kind}"\nnames = {names}\n')
    return configuration.load(path)


def test_names_are_listed_or_the_lines_of_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes("\ufeffcat\r\ndög\n".encode())
    for names in ('["cat", "dög"]', '"classes.txt"'):
        assert load(tmp_path, names).model.task.names == ("cat", "dög")
    assert load(tmp_path, "[]", "generic").model.task.names == ()
    assert load(tmp_path, '""', "generic").model.task.names == ()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ('["cat", ""]', "class 1"),
        ('["a\\nb"]', "class 0"),
        ('["' + "a" * 257 + '"]', "class 0"),
        ('["\\u001b[2J"]', r"\\x1b"),
        ("[" + '"a",' * 65_537 + "]", "65537 names"),
        ('"absent.txt"', "absent.txt: cannot be read"),
        ('"."', "not a regular file"),
        ("3", "names"),
        ("[3]", "names"),
    ],
)
def test_names_that_can_not_be_shown_are_refused(tmp_path: Path, names: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, names)


def test_a_file_of_names_is_text_of_a_bounded_size(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_bytes(b"cat\n\xff\n")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load(tmp_path, '"classes.txt"')
    file.write_bytes(b"a\n" * 2**20)
    with pytest.raises(ConfigError, match="larger than 1 MB"):
        load(tmp_path, '"classes.txt"')


@pytest.mark.parametrize("kind", ["generic", "my.module:metric"])
def test_a_task_without_classes_has_no_names(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConfigError, match=kind):
        load(tmp_path, '["cat"]', kind)
