"""What is SQLite's alone."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import pytest

from agent.core.errors import StoreError
from agent.fleet.storage.sqlite import SqliteFleetStore

_OPEN = """
import sys
from agent.fleet.storage.sqlite import SqliteFleetStore
sys.stdin.read()
SqliteFleetStore(sys.argv[1]).close()
"""


def test_processes_that_create_the_database_at_the_same_moment(tmp_path):
    path = str(tmp_path / "fleet.db")
    processes = [
        subprocess.Popen([sys.executable, "-c", _OPEN, path], stdin=subprocess.PIPE)
        for _ in range(3)
    ]
    for one in processes:
        one.stdin.close()
    assert [one.wait(60) for one in processes] == [0, 0, 0]


def test_a_database_of_a_newer_version_is_left_alone(tmp_path):
    path = tmp_path / "fleet.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="has format 99"):
        SqliteFleetStore(str(path))


def test_only_its_user_can_read_the_database(tmp_path):
    store = SqliteFleetStore(str(tmp_path / "fleet.db"))
    assert {one.stat().st_mode & 0o777 for one in tmp_path.iterdir()} == {0o600}
    store.close()


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "fleet.db").write_text("x" * 5000)
    with pytest.raises(StoreError, match=r"fleet\.db: file is not a database"):
        SqliteFleetStore(str(tmp_path / "fleet.db"))
