"""The client in the environment of an application."""

from __future__ import annotations

import json
import re
from importlib.metadata import requires
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.client.test_release import FRAME, SPEC, echo
from tests.support.fresh_environment import fresh_environment, run_python
from tests.support.releases import write_release

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys
import cv2
from quantd_client import Release

with Release(sys.argv[1]) as release:
    found = release(cv2.imread(sys.argv[2]))
    present = sorted({name.partition(".")[0] for name in sys.modules})
    quantd = sorted(name for name in sys.modules if name.startswith("agent."))
    print(json.dumps({"sum": float(found["y"].sum()), "present": present, "quantd": quantd}))
"""


def test_it_needs_numpy_opencv_and_the_runtime_alone(tmp_path: Path) -> None:
    python = fresh_environment(tmp_path / "fresh")
    release = write_release(tmp_path / "r1", echo(tmp_path / "m.onnx"), SPEC)
    cv2.imwrite(str(tmp_path / "f.png"), FRAME)
    found = json.loads(run_python(python, PROGRAM, release, tmp_path / "f.png"))
    assert found["sum"] > 0
    names = {re.split(r"[^\w-]", one, maxsplit=1)[0] for one in requires("quantd") or ()}
    absent = names - {"numpy", "opencv-python", "onnxruntime", "onnxruntime-gpu", "sympy"}
    assert {"msgspec", "onnx", "psutil"} <= absent
    assert not {one.replace("-", "_") for one in absent} & set(found["present"])
    folders = {name.split(".")[1] for name in found["quantd"]}
    assert folders == {"client", "core"}
    assert np.isfinite(found["sum"])
