"""Only a full disk is a full disk."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agent.core.errors import StoreError
from agent.disk import disk_errors, full_disk, size_bytes


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
