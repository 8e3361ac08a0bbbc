"""A newcomer: a model file, `init`, `optimize`, and an application that loads what was activated.

The application has an environment of its own: the wheel without its dependencies, numpy, OpenCV and
ONNX Runtime. It runs the engine of every candidate on the held-out frames; what it gets must be as
near to FP32 as the report claims, so it fed and read them as the evaluation did.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from agent import config as configuration
from agent.adapters.storage.store import FileStore
from agent.config import Config
from agent.core.fidelity.comparison import Comparison
from agent.core.records import CalibrationSet, RankedRows
from agent.disk import sha256_of
from tests.support.detector_heads import HEADS, SIDE, detector
from tests.support.exported_graphs import Exported
from tests.support.fresh_environment import REPOSITORY, fresh_environment, run_python
from tests.support.quant_graphs import classifier
from tests.support.scene import write_model, write_pictures

pytestmark = pytest.mark.slow

QUICK = """
[calibration]
frames = 12
holdout = 6
window_s = 0.5

[search]
precisions = ["fp32", "int8"]
calibrators = ["minmax", "mse"]

[measure]
warmup_s = 0.1
duration_s = 0.2
rounds = 2
idle_s = 0.0
"""

APPLICATION = """
import hashlib, json, shutil, sys
from pathlib import Path
import cv2
import numpy as np
from agent.core.release.identity import identity_of
from quantd_client import Release

state, frames, engines, out = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
pictures = [cv2.imread(str(path)) for path in sorted(Path(frames).iterdir())
            if path.name in json.loads(sys.argv[5])]

def of_candidate(name, file):
    # the active release, with the engine of another candidate
    folder = Path(out, name)
    shutil.copytree(state / "current", folder)
    described = json.loads((folder / "model.json").read_bytes())
    body = Path(file).read_bytes()
    described["engine"] = {"file": "other.onnx", "sha256": hashlib.sha256(body).hexdigest(),
                           "bytes": len(body)}
    described["identity"] = identity_of(described)
    (folder / "other.onnx").write_bytes(body)
    (folder / "model.json").write_text(json.dumps(described))
    return folder

with Release(state / "current") as release:
    results = [release(picture) for picture in pictures]
    named = [one.names.values() if isinstance(one.names, dict) else one.names for one in results]
    dtypes = {one["name"]: [one["shape"], one["dtype"]] for one in release.description["outputs"]}
    preprocess = release.description["preprocess"]
    seen = release.run(release.tensor(pictures[:1]))
    given = {name: [list(value.shape), value.dtype.name] for name, value in seen.items()}
for name, file in engines.items():
    with Release(of_candidate(name, file)) as release:
        for number, picture in enumerate(pictures):
            np.savez(Path(out, f"{name}-{number}.npz"), **release.run(release.tensor([picture])))
print(json.dumps({
    "kinds": sorted({type(one).__name__ for one in results}),
    "names": sorted({name for names in named for name in names}),
    "outputs": dtypes, "given": given, "input": preprocess,
}))
"""


@dataclass(frozen=True, kw_only=True)
class Newcomer:
    """A model, what its file does not state, and what the application gets.

    Attributes:
        write: Writes the file.
        options: One for each thing that the file does not state.
        result: Class of the client's result.
        names: Of the classes, if the file states them.
    """

    write: Callable[[Path], object]
    result: str
    options: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def ultralytics(path: Path) -> None:
    """Write a detector with the metadata of Ultralytics."""
    model = onnx.load(detector("yolo", path.parent))
    props = {"task": "detect", "stride": "32", "imgsz": f"[{SIDE}, {SIDE}]", "batch": "1",
             "names": "{0: 'person', 1: 'bus', 2: 'dog'}"}  # fmt: skip
    helper.set_model_props(model, props)
    onnx.save(model, path)


def camera_bytes(path: Path) -> None:
    """Write a detector that takes uint8 NHWC and has the outputs of TensorFlow's."""
    g = Exported(17)
    x = g.node("Transpose", g.node("Cast", "image", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    x = g.node("Mul", x, g.constant(np.float32(1 / 64)))
    x = g.node("Relu", g.conv(x, 3, 8, step=4))
    x = g.node("Relu", g.conv(x, 8, 16, step=2))
    outputs = HEADS["tensorflow"][0](g, x)
    g.save(path, ["N", SIDE, SIDE, 3], outputs, TensorProto.UINT8)


NEWCOMERS = {
    "YOLO": Newcomer(write=ultralytics, result="Objects", names=("person", "bus", "dog")),
    "classifier": Newcomer(
        write=classifier, result="Classes",
        options=("--pixels", "imagenet", "--task", "classification"),
    ),
    "segmenter": Newcomer(
        write=write_model, result="ClassMap",
        options=("--pixels", "0..1", "--task", "segmentation"),
    ),
    "NHWC uint8 detector": Newcomer(write=camera_bytes, result="Objects"),
}  # fmt: skip


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_environment(tmp_path_factory.mktemp("application") / "venv")


def quantd(folder: Path, *arguments: object) -> str:
    """Run the command line in a folder of its own, as a person would."""
    done = subprocess.run(
        [sys.executable, "-m", "agent", *map(str, arguments)], cwd=folder, text=True, check=False,
        capture_output=True, timeout=240, env={"PYTHONPATH": str(REPOSITORY), "HOME": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(600)
@pytest.mark.parametrize("newcomer", NEWCOMERS.values(), ids=NEWCOMERS)
def test_the_application_gets_what_the_report_claims(tmp_path, python, newcomer):
    newcomer.write(tmp_path / "m.onnx")
    write_pictures(tmp_path / "pictures")
    quantd(tmp_path, "init", "m.onnx", "--camera", "images://pictures", *newcomer.options)
    config = tmp_path / "quantd.toml"
    config.write_text(config.read_text() + QUICK)
    report = json.loads(quantd(tmp_path, "optimize", "--json"))
    assert report["activation"]["state"] == "active", report["choice"]
    store = FileStore(str(tmp_path / "quantd-m"))
    judged = {one["id"]: one for one in report["candidates"] if one["fidelity"]}
    assert len(judged) == 3
    files = {sha256_of(file): str(file) for file in store.root.glob("artifacts/*/model.onnx")}
    engines = {name: files[one["engine"]["digest"]] for name, one in judged.items()}
    calibration = store.get(report["calibration"]["digest"], CalibrationSet)
    assert calibration is not None
    holdout, frames = calibration.holdout, f"{store.directory(calibration.digest)}/frames"
    found = json.loads(
        run_python(
            python, APPLICATION, tmp_path / "quantd-m", frames, json.dumps(engines),
            tmp_path, json.dumps(holdout),
        )
    )  # fmt: skip
    assert found["kinds"] == [newcomer.result]
    assert found["given"] == found["outputs"]
    assert found["input"].items() <= report["input"].items()
    assert found["names"]
    assert all(
        name in newcomer.names or (not newcomer.names and name.isdigit()) for name in found["names"]
    )
    loaded = configuration.load(config)
    ranked = msgspec.convert(report["model"]["ranked"], tuple[RankedRows, ...])
    for name, one in judged.items():
        again = compared(tmp_path, loaded, ranked, name, len(holdout))
        assert rounded(again) == rounded(one["fidelity"]), name


def compared(
    folder: Path, config: Config, ranked: tuple[RankedRows, ...], name: str, frames: int
) -> dict[str, Any]:
    """Return the fidelity of what the application got."""
    task = config.model.task
    comparison = Comparison(task.kind, None, task.decoding, ranked=ranked)
    for number in range(frames):
        expected, seen = (dict(np.load(folder / f"{one}-{number}.npz")) for one in ("fp32", name))
        comparison.add(expected, seen)
    result = comparison.result()
    return {"sqnr_db": result.sqnr_db, "cosine": result.cosine, "agreement": result.agreement}


def rounded(fidelity: Mapping[str, Any]) -> dict[str, str]:
    """Return the figures with three digits."""
    figures = ("sqnr_db", "cosine", "agreement")
    return {key: "none" if fidelity[key] is None else f"{fidelity[key]:.3g}" for key in figures}
