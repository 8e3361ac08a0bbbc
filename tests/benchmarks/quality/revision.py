"""INT8 and int8-mixed as an earlier revision of quantd makes them, by its own code.

The revision is checked out beside this one and its own `steps` run there. What it made is kept in
the cache: neither its code nor the frames change.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.quantization.calibrator_names import CALIBRATORS
from tests.benchmarks.quality.children import run
from tests.benchmarks.quality.material import REPOSITORY, UnavailableError
from tests.benchmarks.quality.pairs import Pair
from tests.benchmarks.quality.peers import CACHE

_MADE = "made.json"
_LAY_OUT = """
import json, sys
from pathlib import Path
import numpy as np
if Path("tests/benchmarks/quality/layout.py").exists():
    from tests.benchmarks.quality.layout import lay_out
else:
    from tests.benchmarks.quality.steps import lay_out
with np.load(sys.argv[2]) as found:
    shown = {key: found[key] for key in found.files}
frames, holdout = ([shown[k] for k in shown if k.startswith(kind)] for kind in ("frame", "held"))
lay_out(Path(sys.argv[1]), json.loads(sys.argv[3]), frames, holdout)
print("{}")
"""


def checked_out(revision: str) -> Path:
    """Return a folder with the repository as it was at a revision, made on first use.

    Raises:
        UnavailableError: if the repository has no such revision.
    """
    folder = CACHE / f"revision-{revision}"
    if not (folder / "agent").is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        pack = subprocess.Popen(
            ["git", "archive", revision], cwd=REPOSITORY, stdout=subprocess.PIPE
        )
        subprocess.run(["tar", "-x", "-C", str(folder)], stdin=pack.stdout)
        if pack.wait():
            shutil.rmtree(folder)
            raise UnavailableError(f"git has no revision {revision} here; a whole clone is needed")
    return folder


def graphs(
    tree: Path,
    pair: Pair,
    frames: Sequence[NDArray[np.uint8]],
    holdout: Sequence[NDArray[np.uint8]],
) -> dict[str, Any]:
    """Return {"graphs": {id: path}, "failed": {id: reason}}.

    Args:
        tree: From `checked_out`.
        pair: With the settings.
        frames: That calibrate, HWC uint8.
        holdout: Likewise, that judge.
    """
    key = hashlib.sha256(json.dumps(dict(pair.settings), sort_keys=True, default=str).encode())
    key.update(Path(pair.settings["model.path"]).read_bytes())
    for image in (*frames, *holdout):
        key.update(image.tobytes())
    cached = tree.with_name(f"{tree.name}-made") / key.hexdigest()[:16]
    if not (cached / _MADE).is_file():
        shutil.rmtree(cached, ignore_errors=True)
        cached.mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="quantd-bench-") as directory:
            found = _made(tree, Path(directory), pair, frames, holdout)
            for name, graph in found["graphs"].items():
                shutil.copyfile(graph, cached / f"{name}.onnx")
        (cached / _MADE).write_text(json.dumps(found))
    found = json.loads((cached / _MADE).read_text())
    return {**found, "graphs": {name: str(cached / f"{name}.onnx") for name in found["graphs"]}}


def _made(
    tree: Path,
    directory: Path,
    pair: Pair,
    frames: Sequence[NDArray[np.uint8]],
    holdout: Sequence[NDArray[np.uint8]],
) -> dict[str, Any]:
    shown = directory / "shown.npz"
    named = {
        f"{kind}{index:04d}": image
        for kind, images in (("frame", frames), ("held", holdout))
        for index, image in enumerate(images)
    }
    np.savez(shown, **named)
    folder = directory / "work"
    settings = {key: value for key, value in pair.settings.items() if key != "storage.dir"}
    argv: list[str | Path] = [sys.executable, "-c", _LAY_OUT, folder, shown, json.dumps(settings)]
    laid = run(argv, folder=tree)
    if "failed" in laid:
        return {"graphs": {}, "failed": {"layout": laid["failed"]}}
    made: dict[str, Any] = {"graphs": {}, "failed": {}}
    for name, found in _steps(tree, folder):
        if "failed" in found:
            made["failed"][name] = found["failed"]
        elif "graph" in found:
            made["graphs"][name] = found["graph"]
    return made


def _steps(tree: Path, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (candidate, result) of the revision's own steps, in its protocol."""

    def step(*rest: str) -> dict[str, Any]:
        argv = [sys.executable, "-m", "tests.benchmarks.quality.steps", rest[0], folder, *rest[1:]]
        return run(argv, folder=tree)

    if (tree / "tests/benchmarks/quality/layout.py").exists():
        yield "intake", step("intake")
        for precision in ("int8", "int8-mixed"):
            yield from step("quantize", precision).get("made", {}).items()
        return
    for name in ("intake", "condition", "statistics"):
        found = step(name)
        if "failed" in found:
            yield name, found
            return
    for name in CALIBRATORS:
        yield f"int8-{name}", step("int8", name)
    yield "int8-mixed", step("mixed")
