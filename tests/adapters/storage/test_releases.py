"""Releases on a real file system: atomic link, nothing half-written, old ones removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.adapters.storage.releases import FileReleases
from agent.core.errors import ActivationError, StoreError

MODEL = b'{"identity": "abc"}'


def test_current_points_to_the_release_switched_to(tmp_path: Path) -> None:
    releases = FileReleases(str(tmp_path))
    assert releases.current() is None
    releases.create("r1", {"model.json": MODEL, "model.onnx": b"x"})
    releases.switch("r1")
    assert releases.current() == "r1"
    assert (tmp_path / "current" / "model.onnx").read_bytes() == b"x"
    assert releases.identity("r1") == "abc"
    releases.switch(None)
    assert not (tmp_path / "current").exists()


def test_a_release_that_can_t_be_completed_is_not_there(tmp_path: Path) -> None:
    releases = FileReleases(str(tmp_path))
    with pytest.raises(StoreError):
        releases.create("r1", {"model.json": MODEL, "model.onnx": str(tmp_path / "missing")})
    assert releases.ids() == []
    assert list((tmp_path / "releases").iterdir()) == []


def test_what_a_killed_process_left_half_copied_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "releases" / ".new-abc"
    left.mkdir(parents=True)
    (left / "engine.plan").write_bytes(bytes(1000))
    FileReleases(str(tmp_path)).create("r1", {"model.json": MODEL})
    assert [path.name for path in (tmp_path / "releases").iterdir()] == ["r1"]


def test_an_unknown_release_names_the_known_ones(tmp_path: Path) -> None:
    releases = FileReleases(str(tmp_path))
    releases.create("r1", {"model.json": MODEL})
    with pytest.raises(ActivationError) as caught:
        releases.switch("r9")
    assert "r1" in caught.value.hint


def test_finish_keeps_the_current_and_the_newest(tmp_path: Path) -> None:
    releases = FileReleases(str(tmp_path))
    for name in ("r1", "r2", "r3", "r4"):
        releases.create(name, {"model.json": MODEL})
    releases.switch("r1")
    releases.intend("r1", None)
    assert releases.pending() == ("r1", None)
    releases.finish(keep=2)
    assert releases.pending() is None
    assert releases.ids() == ["r1", "r4"]


def test_a_torn_intent_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "activation.json").write_bytes(b'{"rel')
    assert FileReleases(str(tmp_path)).pending() is None
