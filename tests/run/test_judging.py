"""What the parent of the jobs reads of the labels."""

from __future__ import annotations

import os
from pathlib import Path

from agent.run.judging import _labels_digest


def test_labels_that_are_a_pipe_block_no_run(tmp_path: Path) -> None:
    pipe = tmp_path / "labels"
    os.mkfifo(pipe)
    assert _labels_digest(str(pipe)) == ""
    assert _labels_digest(str(tmp_path / "none")) == ""
    (tmp_path / "labels.csv").write_text("frame,label\n")
    assert len(_labels_digest(str(tmp_path / "labels.csv"))) == 64
