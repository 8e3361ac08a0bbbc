"""OpenCV's frame store when the disk is in trouble."""

from __future__ import annotations

import errno
import os

import pytest

from agent.adapters.storage.frames import OpencvFrames
from agent.core.errors import StoreError
from tests.support import scenes


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "disk_full"), (errno.EDQUOT, "disk_full"), (errno.EIO, "store")],
)
def test_a_frame_is_there_whole_or_not_at_all(tmp_path, monkeypatch, number, code):
    """The disk fails at the last moment: when what was written is to be made durable."""

    def fails(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StoreError, match="MB free") as caught:
        OpencvFrames().write(str(tmp_path / "frames"), "00000001.png", scenes.street(1))
    assert caught.value.code == code
    assert list((tmp_path / "frames").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "frames").write_text("a file is in the way")
    with pytest.raises(StoreError, match="frames"):
        OpencvFrames().write(str(tmp_path / "frames"), "00000001.png", scenes.street(1))
