"""Releases on a real file system: atomic link, nothing half-written, old ones removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.adapters.storage.releases import FileReleases
from agent.core.errors import ActivationError, StoreError
from agent.core.records import Activation

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


def made(tmp_path: Path, *names: str) -> FileReleases:
    releases = FileReleases(str(tmp_path))
    for name in names:
        releases.create(name, {"model.json": MODEL})
    return releases


def switched(releases: FileReleases, release: str, keep: int) -> None:
    previous = releases.current()
    releases.intend(f"run-{release}", release, previous)
    releases.switch(release)
    releases.mark(release, good=True)
    releases.finish(Activation(state="active", release=release, previous=previous), keep)


def test_the_current_and_the_newest_stay(tmp_path: Path) -> None:
    releases = made(tmp_path, "r1", "r2", "r3", "r4")
    switched(releases, "r1", keep=2)
    assert releases.pending() is None
    assert releases.ids() == ["r1", "r4"]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_release_active_a_moment_ago_is_never_removed(tmp_path: Path, keep: int) -> None:
    releases = made(tmp_path, "r1", "r2", "r3", "r4")
    switched(releases, "r1", keep=10)
    switched(releases, "r4", keep=keep)
    assert {"r1", "r4"} <= set(releases.ids())
    assert len(releases.ids()) == max(2, keep)


def test_refused_releases_go_before_the_only_good_one(tmp_path: Path) -> None:
    releases = made(tmp_path, "r1", "r2")
    switched(releases, "r1", keep=3)
    switched(releases, "r2", keep=3)
    for bad in ("r3", "r4", "r5"):
        releases.create(bad, {"model.json": MODEL})
        releases.intend(f"run-{bad}", bad, "r2")
        releases.mark(bad, good=False, reason="sick")
        releases.refuse("sick")
        releases.finish(Activation(state="rolled_back", release="r2", previous=bad), 3)
    assert releases.ids() == ["r1", "r2", "r5"]


def test_a_pinned_release_stays_and_does_not_count(tmp_path: Path) -> None:
    releases = made(tmp_path, "r1", "r2", "r3", "r4")
    releases.pin("r1", pinned=True)
    switched(releases, "r4", keep=2)
    assert releases.ids() == ["r1", "r3", "r4"]
    assert releases.marks()["r1"].words == "pinned"
    releases.pin("r1", pinned=False)
    switched(releases, "r3", keep=2)
    assert releases.ids() == ["r3", "r4"]
    with pytest.raises(ActivationError, match="no release r9"):
        releases.pin("r9", pinned=True)


def test_marks_persist_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    made(tmp_path, "r1", "r2", "r3").mark("r1", good=True)
    releases = FileReleases(str(tmp_path))
    releases.mark("r2", good=False, reason="sick")
    releases.mark("gone", good=True)
    assert [mark.words for mark in releases.marks().values()] == ["good", "bad: sick", ""]
    for body in (b"", b"{", b"[1]", b'{"good": "maybe"}', b"\xff"):
        (tmp_path / "releases" / "r2" / ".mark.json").write_bytes(body)
        assert releases.marks()["r2"].good is None
    releases.create("r1", {"model.json": MODEL})  # made again: what was known is void
    assert releases.marks()["r1"].good is None


def test_a_release_is_no_longer_good_where_the_disk_is_too_full_for_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases = made(tmp_path, "r1", "r2")
    releases.mark("r1", good=True)

    def full(*_: object, **__: object) -> None:
        raise StoreError("the disk is full", code="disk_full")

    monkeypatch.setattr("agent.adapters.storage.releases.write_atomically", full)
    releases.mark("r1", good=False, reason="sick")
    releases.mark("r2", good=False, reason="sick")
    assert [mark.words for mark in releases.marks().values()] == ["", ""]


def test_what_a_full_disk_did_not_mark_is_known_from_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger has its space, a mark does not."""
    releases = made(tmp_path, "r1", "r2", "r3", "r4")
    monkeypatch.setattr(releases, "mark", lambda *_, **__: None)
    for state, release, previous in (
        ("active", "r1", None),
        ("active", "r2", "r1"),
        ("rolled_back", "r2", "r3"),
        ("interrupted", "r2", "r4"),
    ):
        releases.intend("run", release, previous)
        releases.finish(Activation(state=state, release=release, previous=previous, detail="d"), 9)
    assert {one: mark.words for one, mark in releases.marks().items()} == {
        "r1": "",  # it was good, or was rolled back from
        "r2": "good",
        "r3": "bad: d",
        "r4": "",
    }


@pytest.mark.parametrize("body", [b'{"rel', b"", b"[]", b'{"release": 1}', b"\xff\xfe"])
def test_a_damaged_ledger_counts_as_none(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "activation.json").write_bytes(body)
    releases = made(tmp_path, "r1")
    assert releases.pending() is None
    assert releases.settled("r1") is None
    switched(releases, "r1", keep=3)
    assert releases.settled("run-r1") is not None


def test_a_switch_that_an_earlier_version_began_is_pending(tmp_path: Path) -> None:
    (tmp_path / "activation.json").write_bytes(b'{"release": "r2", "previous": "r1"}')
    begun = made(tmp_path, "r1", "r2").pending()
    assert begun is not None
    assert (begun.release, begun.previous) == ("r2", "r1")


def test_the_ledger_stays_small(tmp_path: Path) -> None:
    releases = made(tmp_path, "r1", "r2")
    for _ in range(20):
        switched(releases, "r1", keep=3)
        switched(releases, "r2", keep=3)
    ledger = tmp_path / "activation.json"
    assert len(json.loads(ledger.read_bytes())["earlier"]) == 16
    for _ in range(20):
        releases.intend("run", "r1", "r2")
        releases.finish(Activation(state="rolled_back", release="r2", previous="r1",
                                   detail="\N{SNOWMAN}" * 5000), 3)  # fmt: skip
    assert ledger.stat().st_size == 16384
    assert json.loads(ledger.read_bytes())["detail"].startswith("\N{SNOWMAN}")
    assert releases.settled("run") is not None
