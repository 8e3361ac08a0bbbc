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
if sys.argv[4:]:
    from tests.benchmarks.quality.layout import lay_out
else:
    from tests.benchmarks.quality.steps import lay_out
with np.load(sys.argv[2]) as found:
    shown = {key: found[key] for key in found.files}
frames, holdout = ([shown[k] for k in shown if k.startswith(kind)] for kind in ("frame", "held"))
lay_out(Path(sys.argv[1]), json.loads(sys.argv[3]), frames, holdout, *sys.argv[4:])
print("{}")
"""
_STEP = """
import sys
from tests.benchmarks.quality import steps
steps._SCHEME = sys.argv[1]
steps.main(sys.argv[2:])
"""
_LAYOUT = Path("tests/benchmarks/quality/layout.py")  # since it exists the scheme is laid out


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
    precision: str,
    frames: Sequence[NDArray[np.uint8]],
    holdout: Sequence[NDArray[np.uint8]],
) -> dict[str, dict[str, Any]]:
    """Return its graphs by candidate, or why there are none, as `children.quantized` does.

    Args:
        tree: From `checked_out`.
        pair: With the settings and the scheme.
        precision: int8 or int8-mixed.
        frames: That calibrate, HWC uint8.
        holdout: Likewise, that judge.
    """
    asked = {**pair.settings, "": [precision, pair.scheme]}
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    key.update(Path(pair.settings["model.path"]).read_bytes())
    for image in (*frames, *holdout):
        key.update(image.tobytes())
    cached = tree.with_name(f"{tree.name}-made") / key.hexdigest()[:16]
    if not (cached / _MADE).is_file():
        shutil.rmtree(cached, ignore_errors=True)
        cached.mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="quantd-bench-") as directory:
            found = _made(tree, Path(directory), pair, precision, frames, holdout)
            for name, one in found.items():
                if "graph" in one:
                    shutil.copyfile(one["graph"], cached / f"{name}.onnx")
                    one["graph"] = str(cached / f"{name}.onnx")
        if any("crashed" in one for one in found.values()):
            return found  # and it is tried again by the next run
        (cached / _MADE).write_text(json.dumps(found))
    return json.loads((cached / _MADE).read_text())  # type: ignore[no-any-return]


def _made(
    tree: Path,
    directory: Path,
    pair: Pair,
    precision: str,
    frames: Sequence[NDArray[np.uint8]],
    holdout: Sequence[NDArray[np.uint8]],
) -> dict[str, dict[str, Any]]:
    shown = directory / "shown.npz"
    named = {
        f"{kind}{index:04d}": image
        for kind, images in (("frame", frames), ("held", holdout))
        for index, image in enumerate(images)
    }
    np.savez(shown, **named)
    folder = directory / "work"
    argv: list[str | Path] = [sys.executable, "-c", _LAY_OUT, folder, shown]
    argv.append(json.dumps(dict(pair.settings)))
    laid = run([*argv, *([pair.scheme] if (tree / _LAYOUT).exists() else [])], folder=tree)
    if "failed" in laid:
        return {"layout": laid}
    return {
        name: {key: one[key] for key in ("graph", "failed", "crashed") if key in one}
        for name, one in _steps(tree, folder, precision, pair.scheme)
        if "graph" in one or "failed" in one
    }


def _steps(
    tree: Path, folder: Path, precision: str, scheme: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (candidate, result) of the revision's own steps, in its protocol."""

    def step(name: str, *rest: str) -> dict[str, Any]:
        return run([sys.executable, "-c", _STEP, scheme, name, folder, *rest], folder=tree)

    if (tree / _LAYOUT).exists():
        yield "intake", step("intake")
        yield from step("quantize", precision).get("made", {}).items()
        return
    for name in ("intake", "condition", "statistics"):
        found = step(name)
        if "failed" in found:
            yield name, found
            return
    if precision == "int8-mixed":
        yield precision, step("mixed")
        return
    for name in CALIBRATORS:
        yield f"int8-{name}", step("int8", name)
