"""The C++ example computes what the Python client computes, from model.json alone."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.client import Release
from agent.core.frames.input_spec import InputSpec
from tests.support.cpp import compiled
from tests.support.small_releases import small_release

pytestmark = pytest.mark.slow
IMAGENET = InputSpec(
    width=48, height=40, scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
SPECS = {
    "stretched": IMAGENET,
    "letterboxed": replace(IMAGENET, resize="letterbox", mean=(0.5,), std=(2.0,)),
    "cornered": replace(IMAGENET, resize="letterbox", centered=False, pad_value=7),
    "enlarged": replace(IMAGENET, width=211, height=187, color="BGR"),
    "integers": InputSpec(width=48, height=40, layout="NHWC", dtype="uint8"),
    "signed": InputSpec(width=48, height=40, dtype="int8", scale=0.7, mean=(100.0, 3.0, 20.0)),
    "grey": replace(IMAGENET, color="GRAY", mean=(0.4,), std=(0.2,)),
    "half": replace(IMAGENET, dtype="float16", layout="NHWC"),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("ort"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture of 100x75 px with detail and colour."""
    source = np.random.default_rng(5)
    small = source.integers(0, 256, (25, 33, 3), np.uint8)
    image = cv2.resize(small, (100, 75), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "picture.png"), image)
    return tmp_path / "picture.png"


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_its_outputs_are_those_of_the_python_client(program, picture, tmp_path, spec, batch):
    folder = small_release(tmp_path / "release", spec, batch)
    done = subprocess.run(
        [program, folder, picture, tmp_path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    seen = np.fromfile(tmp_path / "0.bin", np.float32).reshape(batch, -1)
    with Release(folder) as release:
        wanted = release.run(release.tensor([cv2.imread(str(picture))]))["scores"]
    assert wanted.std() > 1e-3
    np.testing.assert_allclose(seen, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("table", "key", "value", "words"),
    [
        ("runtime", "kind", "tensorrt", "the release is for"),
        ("runtime", "providers", ["CUDAExecutionProvider"], "the release is for"),
        ("engine", "bytes", 7, "is not the file"),
        ("", "schema", 3, "not 2"),
    ],
)
def test_a_release_that_it_can_not_run_is_refused(
    program, picture, tmp_path, table, key, value, words
):
    folder = small_release(tmp_path / "release", SPECS["stretched"])
    described = json.loads((folder / "model.json").read_bytes())
    (described[table] if table else described)[key] = value
    (folder / "model.json").write_text(json.dumps(described))
    done = subprocess.run(
        [program, folder, picture, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert words in done.stderr
