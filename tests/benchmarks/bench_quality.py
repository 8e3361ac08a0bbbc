"""INT8 fidelity and what quantizing costs, quantd beside its peers: `make bench-quality`.

    python -m tests.benchmarks.bench_quality [--part PART,...] [--only MODEL,...]
        [--peers none|ort|modelopt|all] [--models DIR] [--frames N] [--revision COMMIT]
        [--markdown] [--output bench-quality.json] [--show bench-quality.json]

Nothing here passes or fails. Every quantization runs in a process of its own; every graph is
judged by the same few lines in plain ONNX Runtime, as it is written, against FP32, on the same
held-out frames. The parts:

- fidelity: INT8 from 16 frames by every tool, and the CPU time of quantd's;
- memory: peak memory of whole quantizations of CenterFace from 128 and 512 frames;
- promises: INT8 and int8-mixed from 64 frames, beside an earlier revision of quantd, and whether
  int8-mixed keeps its limit on frames that it has not seen;
- pass: the pass over the calibration frames;
- representative: frames chosen by quantd against random frames.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.quality import cost, revision
from tests.benchmarks.quality.children import module
from tests.benchmarks.quality.fidelity import compared
from tests.benchmarks.quality.material import MODELS, REPOSITORY, SCENES, Model, UnavailableError
from tests.benchmarks.quality.peers import CACHE, PEERS, python_of, versions, wanted
from tests.benchmarks.quality.promises import kept
from tests.benchmarks.quality.steps import TENSORRT
from tests.benchmarks.quality.tables import render
from tests.benchmarks.run import machine

_PARTS = ("fidelity", "memory", "promises", "pass", "representative")
_NAMES = tuple(model.name for model in MODELS)
_CHOOSING = ("centerface", "efflite0", "selfie")  # without the last two PP-OCR stands in
_COSTED = "street"


def main() -> None:
    """Run what is asked for, print the tables and write the JSON."""
    arguments = _arguments()
    if arguments.show:
        found = json.loads(arguments.show.read_text())
        sys.stdout.write(render(found, marked=arguments.markdown))
        return
    begin = time.monotonic()
    made_by, digest = agent_revision(), _digest()
    _report("a full run with both peers takes about an hour on two cores")
    CACHE.mkdir(exist_ok=True)
    missing: list[str] = []
    result: dict[str, Any] = {
        "machine": machine(),
        "agent": made_by,
        "revision": arguments.revision,
        "scheme": TENSORRT,
        "frames": arguments.frames,
        "missing": missing,
    }

    def save() -> None:  # after every pair, so that nothing measured is lost
        if _digest() != digest:  # each step is a process that imports agent/ again
            result["agent"] = f"{made_by}, changed while this ran"
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")

    for part in arguments.part:
        for name, found in _RUN[part](arguments, missing):
            result.setdefault(part, {})[name] = found
            save()
        result.setdefault("took_s", {})[part] = round(time.monotonic() - begin, 1)
    save()
    sys.stdout.write(render(result, marked=arguments.markdown))
    _report(f"all figures are in {arguments.output}")


Found = Iterator[tuple[str, Any]]


def _fidelity(arguments: argparse.Namespace, missing: list[str]) -> Found:
    pythons = {}
    for name in wanted(arguments.peers):
        try:
            pythons[name] = python_of(name)
        except UnavailableError as e:
            missing.append(str(e))
    yield "versions", {name: versions(python) for name, python in pythons.items()}
    yield from _pairs(
        arguments,
        missing,
        lambda model, scene: compared(
            model,
            scene,
            frames=arguments.frames,
            models=arguments.models,
            pythons=pythons,
            report=_report,
            costs=scene == _COSTED,
        ),
    )


def _promises(arguments: argparse.Namespace, missing: list[str]) -> Found:
    tree = None
    try:
        tree = revision.checked_out(arguments.revision) if arguments.revision else None
    except UnavailableError as e:
        missing.append(str(e))
    yield from _pairs(
        arguments,
        missing,
        lambda model, scene: kept(model, scene, models=arguments.models, tree=tree, report=_report),
    )


def _pairs(
    arguments: argparse.Namespace, missing: list[str], measured: Callable[[Model, str], Any]
) -> Found:
    for model in (model for model in MODELS if model.name in arguments.only):
        for scene in SCENES:
            _report(f"{model.name}, {scene} ...")
            try:
                yield f"{model.name}, {scene}", measured(model, scene)
            except UnavailableError as e:
                missing.append(f"{model.name}, {scene}: {e}")


def _memory(_: argparse.Namespace, missing: list[str]) -> Found:
    try:
        yield from cost.memory(_report).items()
    except UnavailableError as e:
        missing.append(f"memory: {e}")


def _pass(_: argparse.Namespace, __: list[str]) -> Found:
    yield from cost.calibration_pass(_report).items()


def _representative(arguments: argparse.Namespace, missing: list[str]) -> Found:
    for name in _present(arguments.models):
        _report(f"representative frames, {name} ...")
        folder = [arguments.models] if arguments.models else []
        found = module("representative", name, *folder)
        if "failed" in found:
            missing.append(f"representative frames, {name}: {found['failed']}")
        else:
            yield name, found


def _present(models: Path | None) -> list[str]:
    """Return the models for the choice of frames that this machine has, at least two."""
    found = []
    for model in (model for model in MODELS if model.name in _CHOOSING):
        try:
            model.locate(models, CACHE)
        except UnavailableError:
            continue
        found.append(model.name)
    return found if len(found) > 1 else [*found, "ppocr"]


_RUN = {
    "fidelity": _fidelity,
    "memory": _memory,
    "promises": _promises,
    "pass": _pass,
    "representative": _representative,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", default=_PARTS, type=_some_of(_PARTS), help=", ".join(_PARTS))
    parser.add_argument("--only", default=_NAMES, type=_some_of(_NAMES), help=", ".join(_NAMES))
    parser.add_argument("--peers", default="all", choices=("none", *PEERS, "all"))
    parser.add_argument("--models", type=_folder, help="folder of further ONNX files")
    parser.add_argument("--frames", type=int, default=16, help="calibration frames")
    parser.add_argument("--revision", default="49a9107", help="earlier commit; empty for none")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("bench-quality.json"))
    parser.add_argument("--show", type=Path, help="only print the tables of an earlier run")
    return parser.parse_args()


def _folder(text: str) -> Path | None:
    return Path(text) if text else None


def _some_of(allowed: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def parsed(text: str) -> tuple[str, ...]:
        names = tuple(text.split(",")) if text else tuple(allowed)
        unknown = set(names) - set(allowed)
        if unknown:
            known = ", ".join(allowed)
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: there are {known}")
        return names

    return parsed


def agent_revision() -> str:
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


def _report(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
