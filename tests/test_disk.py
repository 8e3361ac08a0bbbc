"""Only a full disk is a full disk, and a file that can't be read now is not waited for."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from agent.core.errors import StoreError
from agent.disk import (
    READABLE,
    close_to_others,
    disk_errors,
    full_disk,
    make_folder,
    read_now,
    remove_abandoned,
    size_bytes,
    text_of,
    work_folder,
    write_atomically,
)
from tests.support.unreadable import not_now


@pytest.mark.parametrize("guard", [full_disk, disk_errors])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_the_place_and_what_is_free(tmp_path, guard, number):
    reported = r"not/there: the disk is full \(\d+\.\d MB free\)"
    with pytest.raises(StoreError, match=reported) as e, guard(tmp_path / "not" / "there"):
        raise OSError(number, "full")
    assert e.value.code == "disk_full"
    assert "free some space" in e.value.hint


def test_other_trouble_of_a_job_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), full_disk(tmp_path):
        (tmp_path / "model.onnx").read_bytes()
    with pytest.raises(StoreError) as e, disk_errors(tmp_path):
        (tmp_path / "model.onnx").read_bytes()
    assert e.value.code == "store"


def test_a_folder_takes_what_its_files_take(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    Path(tmp_path, "a", "b", "c").write_bytes(bytes(10))
    Path(tmp_path, "d").write_bytes(bytes(5))
    assert size_bytes(tmp_path) == 15


@pytest.mark.timeout(10)
def test_a_file_that_can_not_be_read_now_is_an_os_error_and_is_not_waited_for(tmp_path):
    with not_now(tmp_path / "temp"):
        with pytest.raises(BlockingIOError) as caught:
            read_now(tmp_path / "temp")
        assert caught.value.errno == errno.EAGAIN
        assert text_of(tmp_path / "temp") == ""


def test_a_file_is_read_to_its_end_whatever_its_bytes(tmp_path):
    body = "°C ".encode() * 50_000 + b"\xff\0"
    (tmp_path / "text").write_bytes(body)
    assert read_now(tmp_path / "text") == body.decode(errors="replace")
    assert text_of(tmp_path / "text").endswith("°C \ufffd")
    assert text_of(tmp_path / "absent") == ""


def test_a_new_folder_taken_for_abandoned_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    """Jobs of several users and state folders share the temporary folder."""
    made = []

    def mkdtemp(**how):
        made.append(original(**how))
        if len(made) == 1:
            remove_abandoned(tmp_path, "work-")
        return made[-1]

    original = tempfile.mkdtemp
    monkeypatch.setattr("tempfile.mkdtemp", mkdtemp)
    with work_folder(tmp_path, "work-") as folder:
        assert [str(folder)] == made[1:]
        remove_abandoned(tmp_path, "work-")
        assert folder.exists()
    assert not folder.exists()


@pytest.mark.timeout(10)
def test_only_folders_are_removed_as_abandoned(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "work-link").symlink_to(kept)
    os.mkfifo(tmp_path / "work-fifo")
    (tmp_path / "work-file").touch()
    (tmp_path / "work-folder").mkdir()
    remove_abandoned(tmp_path, "work-")
    assert {path.name for path in tmp_path.iterdir()} == {
        "kept", "work-link", "work-fifo", "work-file"
    }  # fmt: skip


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.usefixtures("umask")
def test_a_file_has_the_mode_it_needs_whatever_the_umask(tmp_path):
    write_atomically(tmp_path / "private", b"1")
    write_atomically(tmp_path / "public", b"1", mode=READABLE)
    assert (mode(tmp_path / "private"), mode(tmp_path / "public")) == (0o600, 0o644)
    (tmp_path / "private").chmod(0o666)
    write_atomically(tmp_path / "private", b"2")
    assert mode(tmp_path / "private") == 0o600


@pytest.mark.usefixtures("umask")
def test_a_folder_can_be_entered_whatever_the_umask(tmp_path):
    make_folder(tmp_path / "state" / "releases")
    assert (mode(tmp_path / "state"), mode(tmp_path / "state" / "releases")) == (0o755, 0o755)
    (tmp_path / "state").chmod(0o700)
    make_folder(tmp_path / "state")
    assert mode(tmp_path / "state") == 0o700, "its owner may keep it closed"


def test_files_of_an_earlier_version_are_closed_to_others(tmp_path):
    outside = tmp_path / "outside"
    (tmp_path / "runs" / "1").mkdir(parents=True)
    for path in (outside, tmp_path / "runs" / "1" / "a.png", tmp_path / "runs" / "b"):
        path.touch()
        path.chmod(0o644)
    (tmp_path / "runs" / "link").symlink_to(outside)
    os.mkfifo(tmp_path / "runs" / "fifo")
    close_to_others(tmp_path / "runs")
    close_to_others(tmp_path / "absent")
    assert mode(tmp_path / "runs" / "1" / "a.png") == 0o600
    assert mode(tmp_path / "runs" / "b") == 0o600
    assert mode(outside) == 0o644
    assert mode(tmp_path / "runs" / "1") == 0o755
