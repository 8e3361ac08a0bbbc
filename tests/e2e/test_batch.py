"""A release of several frames: model.json states what its engine takes, and each frame has its result."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.client import ClassMap, Release
from tests.support.scene import quantd, write_config

pytestmark = pytest.mark.slow


def test_a_release_of_a_batch_is_used_as_it_is_described(tmp_path: Path) -> None:
    config = write_config(tmp_path, search={"precisions": ["fp32"], "batch": [4]})
    done = quantd("optimize", "-c", config)
    assert done.returncode == 0, done.stderr
    frames = [cv2.imread(str(path)) for path in sorted((tmp_path / "pictures").iterdir())[:3]]
    with Release(tmp_path / "state" / "current") as release:
        described = release.description
        assert (described["batch"], described["inputs"][0]["shape"]) == (4, [4, 3, 64, 64])
        (mask,) = described["outputs"]
        tensor = release.tensor(frames)
        outputs = release.run(tensor)[mask["name"]]
        assert list(outputs.shape) == mask["shape"] == [4, 1, 32, 32]
        together = release(frames)
        for frame, found in zip(frames, together, strict=True):
            alone = release(frame)
            assert isinstance(found, ClassMap)
            assert isinstance(alone, ClassMap)
            assert found.labels.shape == frame.shape[:2]
            assert np.mean(found.labels == alone.labels) > 0.999  # but for rounding
