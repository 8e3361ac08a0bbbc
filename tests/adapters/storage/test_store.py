"""The artifact store: complete or absent, whatever happens in between."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.adapters.storage.store import FileStore
from agent.core.errors import StoreError
from agent.core.records import digest_of


@dataclass(frozen=True)
class Record:
    name: str
    values: tuple[int, ...]


DIGEST = digest_of("test", 1)


def keep(store: FileStore, record: Record, body: bytes = b"engine") -> None:
    with store.stage(DIGEST) as work:
        Path(work, "file.bin").write_bytes(body)
        store.keep(DIGEST, work, record)


def test_a_kept_record_comes_back_with_its_files(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path))
    assert store.get(DIGEST, Record) is None
    keep(store, Record("a", (1, 2)))
    assert FileStore(str(tmp_path)).get(DIGEST, Record) == Record("a", (1, 2))
    assert Path(store.directory(DIGEST), "file.bin").read_bytes() == b"engine"


def test_work_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path))

    def fail() -> None:
        with store.stage(DIGEST) as work:
            Path(work, "half").write_bytes(b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list((tmp_path / "artifacts").iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "file.bin").write_bytes(b"eng"),
        lambda folder: (folder / "file.bin").write_bytes(b"engime"),
        lambda folder: (folder / "file.bin").unlink(),
        lambda folder: (folder / "record.json").write_bytes(b'{"record": {"na'),
        lambda folder: (folder / "record.json").unlink(),
        lambda folder: (folder / "record.json").write_bytes(b'{"record": {"x": 1}, "files": {}}'),
    ],
    ids=[
        "truncated file",
        "decayed file",
        "missing file",
        "torn record",
        "no record",
        "other shape",
    ],
)
def test_a_damaged_artifact_is_set_aside_and_made_again(tmp_path: Path, damage: object) -> None:
    store = FileStore(str(tmp_path))
    keep(store, Record("a", ()))
    damage(Path(store.directory(DIGEST)))  # type: ignore[operator]
    assert store.get(DIGEST, Record) is None
    keep(store, Record("b", ()))
    assert store.get(DIGEST, Record) == Record("b", ())


def test_sweep_removes_only_folders_without_a_process(tmp_path: Path) -> None:
    """After a restart of the machine a process id belongs to another process."""
    store = FileStore(str(tmp_path))
    script = f"""
import os, signal
from agent.adapters.storage.store import FileStore
with FileStore({str(tmp_path)!r}).stage("0" * 64) as work:
    open(work + "/graph.onnx", "wb").write(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    (killed,) = (tmp_path / "artifacts").iterdir()
    killed = killed.rename(killed.with_name(f".work-{os.getpid()}-abc-x"))
    with store.stage(DIGEST) as mine:
        store.remove_abandoned()
        assert Path(mine).is_dir()
    assert not killed.exists()


def test_prune_removes_the_longest_unused_but_not_what_is_needed(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path))
    digests = [digest_of("test", n) for n in range(4)]
    for age, digest in enumerate(digests):
        with store.stage(digest) as work:
            Path(work, "file.bin").write_bytes(bytes(1000))
            store.keep(digest, work, Record("x", ()))
        os.utime(store.directory(digest), (age, age))
    freed = store.prune(2500, used={digests[0]})
    assert freed > 0
    left = [d for d in digests if store.get(d, Record) is not None]
    assert left == [digests[0], digests[3]]


def test_an_unwritable_place_is_an_error_with_a_hint() -> None:
    with pytest.raises(StoreError, match="can't be created") as caught:
        FileStore("/proc/quantd")
    assert "storage.dir" in caught.value.hint
