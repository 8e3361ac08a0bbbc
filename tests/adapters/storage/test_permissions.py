"""Which of the stored files other users can read, whatever the umask and the version before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.storage.journal import SqliteJournal
from agent.adapters.storage.releases import FileReleases
from agent.adapters.storage.store import FileStore
from agent.core.records import Digest


@pytest.fixture(params=[0o000, 0o077], ids=oct, autouse=True)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in folder.rglob("*")
    }


def test_the_database_is_for_quantd_only(tmp_path: Path) -> None:
    with SqliteJournal(str(tmp_path / "state.db")) as journal:
        journal.next("session")
        found = modes(tmp_path)
    assert {"state.db", "state.db-wal", "state.db-shm"} <= set(found)
    assert set(found.values()) == {0o600}


def test_a_database_of_an_earlier_version_is_closed_to_others(tmp_path: Path) -> None:
    with SqliteJournal(str(tmp_path / "state.db")) as journal:
        journal.next("session")
        for path in tmp_path.iterdir():
            path.chmod(0o644)
        with SqliteJournal(str(tmp_path / "state.db")) as again:  # as after a kill
            again.next("session")
            assert set(modes(tmp_path).values()) == {0o600}


def test_a_release_is_for_all(tmp_path: Path) -> None:
    (tmp_path / "engine").write_bytes(b"engine")
    (tmp_path / "engine").chmod(0o600)
    releases = FileReleases(str(tmp_path / "state"))
    releases.create("r1", {"model.json": b"{}", "model.onnx": str(tmp_path / "engine")})
    releases.add("r1", "report.json", b"{}")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o755
    assert modes(tmp_path / "state" / "releases") == {
        "r1": 0o755,
        "r1/model.json": 0o644,
        "r1/model.onnx": 0o644,
        "r1/report.json": 0o644,
    }


def test_an_artifact_is_for_quantd_only(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path))
    digest = Digest("d" * 64)
    with store.stage(digest) as work:
        Path(work, "frames").mkdir()
        for name in ("frames/1.png", "model.onnx"):
            Path(work, name).write_bytes(b"1")
        store.keep(digest, work, {"a": 1})
    found = modes(Path(store.directory(digest)))
    files = {name: mode for name, mode in found.items() if name != "frames"}
    assert files == dict.fromkeys(("frames/1.png", "model.onnx", "record.json"), 0o600)
