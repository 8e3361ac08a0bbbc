"""INT8 fidelity and what calibration costs, quantd beside its peers: `make bench-quality`.

    python -m tests.benchmarks.bench_quality [--peers none|ort|modelopt|all] [--models DIR]
        [--only NAME,...] [--frames N] [--markdown] [--output bench-quality.json]

Nothing here passes or fails. Every quantization runs in a process of its own; every graph is
judged by the same few lines in plain ONNX Runtime, as it is written, against FP32, on the same
held-out frames.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.quality import cost
from tests.benchmarks.quality.children import run
from tests.benchmarks.quality.fidelity import Setting, compared
from tests.benchmarks.quality.material import MODELS, REPOSITORY, SCENES, Model, UnavailableError
from tests.benchmarks.quality.peers import CACHE, PEERS, python_of, versions, wanted
from tests.benchmarks.quality.tables import render
from tests.benchmarks.run import machine

_SECTIONS = (*(model.name for model in MODELS), "cost", "representative")
_CHOOSING = ("centerface", "efflite0", "selfie")  # without the last two PP-OCR stands in


def main() -> None:
    """Run what is asked for, print the tables and write the JSON."""
    arguments = _arguments()
    begin = time.monotonic()
    made_by, digest = revision(), _digest()
    _say("a full run with both peers takes forty minutes on two cores")
    missing: list[str] = []
    pythons: dict[str, Path] = {}
    CACHE.mkdir(exist_ok=True)
    for name in wanted(arguments.peers):
        try:
            pythons[name] = python_of(name)
        except UnavailableError as e:
            missing.append(str(e))
    setting = Setting(
        models=arguments.models,
        frames=arguments.frames,
        holdout=arguments.holdout,
        pythons=pythons,
        say=_say,
    )
    result: dict[str, Any] = {
        "machine": machine(),
        "agent": made_by,
        "peers": {name: versions(python) for name, python in pythons.items()},
        "scheme": "S8S8",
        "frames": arguments.frames,
        "holdout": arguments.holdout,
        "fidelity": {},
    }

    def save() -> None:  # after every part, so that nothing measured is lost
        if _digest() != digest:  # each step is a process that imports agent/ anew
            result["agent"] = f"{made_by}, changed while this ran"
        result.update(missing=missing, took_s=round(time.monotonic() - begin, 1))
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")

    for model in MODELS:
        if model.name in arguments.only:
            result["fidelity"] |= _scenes(model, setting, missing)
            save()
    if "representative" in arguments.only:
        result["representative"] = _representative(setting, missing)
        save()
    if "cost" in arguments.only:
        _say("calibration cost ...")
        result["cost"] = cost.measured(result["fidelity"], arguments.frames, _say)
    save()
    sys.stdout.write(render(result, marked=arguments.markdown))
    _say(f"all figures are in {arguments.output}")


def _scenes(model: Model, setting: Setting, missing: list[str]) -> dict[str, Any]:
    found = {}
    for scene in SCENES:
        _say(f"{model.name}, {scene} ...")
        try:
            found[f"{model.name}, {scene}"] = compared(model, scene, setting)
        except UnavailableError as e:
            missing.append(f"{model.name} is left out: {e}")
            break
    return found


def _representative(setting: Setting, missing: list[str]) -> dict[str, Any]:
    """Return what choosing frames brings, for CenterFace and smaller models."""
    module = "tests.benchmarks.quality.representative"
    found = {}
    for name in _present(setting):
        _say(f"representative frames, {name} ...")
        folder = [setting.models] if setting.models else []
        result = run([sys.executable, "-m", module, name, *folder])
        if "failed" in result:
            missing.append(f"representative frames, {name}: {result['failed']}")
        else:
            found[name] = result
    return found


def _present(setting: Setting) -> list[str]:
    """Return the models for the choice of frames that this machine has, at least two."""
    found = []
    for model in (model for model in MODELS if model.name in _CHOOSING):
        try:
            model.locate(setting.models, CACHE)
        except UnavailableError:
            continue
        found.append(model.name)
    return found if len(found) > 1 else [*found, "ppocr"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default="all", choices=("none", *PEERS, "all"))
    parser.add_argument("--models", type=_folder, help="folder of further ONNX files")
    parser.add_argument("--only", default=_SECTIONS, type=_sections, help=", ".join(_SECTIONS))
    parser.add_argument("--frames", type=int, default=16, help="calibration frames")
    parser.add_argument("--holdout", type=int, default=32, help="frames that judge")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("bench-quality.json"))
    return parser.parse_args()


def _folder(text: str) -> Path | None:
    return Path(text) if text else None


def _sections(text: str) -> tuple[str, ...]:
    names = tuple(text.split(",")) if text else _SECTIONS
    unknown = set(names) - set(_SECTIONS)
    if unknown:
        raise argparse.ArgumentTypeError(f"no section is called {', '.join(sorted(unknown))}")
    return names


def revision() -> str:
    """Return the last commit that changed agent/, marked if the tree has changes since."""
    asked = ["git", "log", "-1", "--format=%h", "--", "agent"]
    changed = ["git", "status", "--porcelain", "--", "agent"]
    commit, dirty = (
        subprocess.run(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True).stdout.strip()
        for argv in (asked, changed)
    )
    return f"{commit or 'unknown'}{' and uncommitted changes' if dirty else ''}"


def _digest() -> str:
    """Return a digest of agent/ as it lies there now."""
    found = hashlib.sha256()
    for path in sorted((REPOSITORY / "agent").rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
