"""Paths in a configuration are relative to its file, wherever quantd is started."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agent import config as configuration
from agent.config import loading

_NAMED_LIKE_A_PATH = re.compile(r"(path|card|labels|names|fleet|dir|_file|\.ca|\.cert|\.key)$")
_NO_PATHS = {"device.labels", "model.task.decode.labels"}


def set_to(folder: Path, key: str, value: str) -> Any:
    """Return the effective value of a key that a file sets."""
    table, _, leaf = key.rpartition(".")
    file = folder / "etc" / "quantd.toml"
    file.parent.mkdir(exist_ok=True)
    task = ""
    if key == "model.task.labels":
        task = 'kind = "classification"\n'
    if key == "model.card":
        (file.parent / "here").write_text("")
    file.write_text(f"[{table}]\n{leaf} = {value}\n{task}")
    return configuration.flatten(configuration.dump(configuration.load(file)))[key]


PLAIN = [key for key in loading._PATHS if key not in {"device.board", "model.task.names"}]


@pytest.mark.parametrize("key", PLAIN)
def test_a_path_is_relative_to_its_file(tmp_path, monkeypatch, key):
    monkeypatch.chdir(tmp_path)
    assert set_to(tmp_path, key, '"here"') == str(tmp_path / "etc" / "here")
    if key != "model.card":
        assert set_to(tmp_path, key, '"/there"') == "/there"


@pytest.mark.parametrize("key", ["activation.reload", "activation.health"])
def test_a_command_with_a_path_is_relative_to_its_file(tmp_path, monkeypatch, key):
    monkeypatch.chdir(tmp_path)
    beside = str(tmp_path / "etc" / "reload.sh")
    assert set_to(tmp_path, key, '["./reload.sh", "./x"]') == (beside, "./x")
    assert set_to(tmp_path, key, '["systemctl", "reload", "a/b"]') == ("systemctl", "reload", "a/b")


def test_every_key_that_names_a_file_or_folder_is_known():
    """A key that is not in the table would be relative to the current folder."""
    keys = set(configuration.flatten(configuration.dump(configuration.Config())))
    named = {key for key in keys if _NAMED_LIKE_A_PATH.search(key)} - _NO_PATHS
    assert named <= set(loading._PATHS)
    assert {*loading._PATHS, *loading._COMMANDS} <= keys


def test_what_has_no_value_stays_so(tmp_path):
    assert set_to(tmp_path, "mqtt.password_file", '""') == ""
    assert set_to(tmp_path, "activation.reload", "[]") == ()
