"""What other users can read of a run: the release, and no picture or report of the camera."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.support.scene import quantd, write_config

pytestmark = pytest.mark.slow


@pytest.fixture(params=[pytest.param(0o000, marks=pytest.mark.faults), 0o077], ids=oct)
def finished(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the folder of a run under some umask."""
    config = write_config(tmp_path, search={"precisions": ["fp32"]})
    before = os.umask(request.param)
    try:
        done = quantd("optimize", "-c", config, "--output", tmp_path / "out", "--json")
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_the_release_is_for_all_and_the_rest_for_quantd_only(finished: Path) -> None:
    state = finished / "state"
    release = (state / "current").resolve()
    for path in (state, state / "releases", release):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755, path
    for path in release.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644, path
    assert list(state.glob("artifacts/*/frames/*.png"))
    assert list(state.glob("runs/*/report.html"))
    for path in (*state.glob("artifacts/**/*"), *state.glob("runs/**/*"), *state.glob("state.db*")):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (finished / "out").iterdir()}
    assert (modes["model.json"], modes["model.onnx"]) == (0o644, 0o644)
    assert (modes["report.json"], modes["report.html"]) == (0o600, 0o600)
