"""The tools that quantd stands beside, each in a virtual environment of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.quality.children import run
from tests.benchmarks.quality.material import REPOSITORY, UnavailableError

CACHE = REPOSITORY / ".bench"
_SCRIPTS = REPOSITORY / "tests" / "benchmarks" / "peers"
_READY = ".ready"
_TELLING = ("nvidia-modelopt", "onnxruntime", "onnx=", "numpy=")


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One tool.

    Attributes:
        packages: What its environment needs.
        script: Of tests/benchmarks/peers; called with model, frames, target and method.
        methods: Its calibrators, by its own names.
    """

    title: str
    packages: tuple[str, ...]
    script: str
    methods: tuple[str, ...]


PEERS: Mapping[str, Peer] = {
    "ort": Peer(
        title="ONNX Runtime",
        packages=("onnxruntime", "onnx", "sympy"),
        script="quantize_ort.py",
        methods=("MinMax", "Entropy", "Percentile"),
    ),
    "modelopt": Peer(
        title="Model Optimizer",
        packages=("nvidia-modelopt[onnx]",),
        script="quantize_modelopt.py",
        methods=("max", "entropy"),
    ),
}


def wanted(names: str) -> tuple[str, ...]:
    """Return the keys that a PEERS=... argument names."""
    if names == "none":
        return ()
    return tuple(PEERS) if names == "all" else tuple(names.split(","))


def python_of(name: str) -> Path:
    """Return the Python of a peer's environment, made on first use.

    Raises:
        UnavailableError: if it can't be made here.
    """
    home = CACHE / name
    python = home / "bin" / "python"
    if (home / _READY).is_file():
        return python
    sys.stderr.write(f"setting up {home.relative_to(REPOSITORY)} (once; may take minutes) ...\n")
    home.parent.mkdir(exist_ok=True)
    for argv in (
        [sys.executable, "-m", "venv", str(home)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         *PEERS[name].packages],
    ):  # fmt: skip
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            last = (done.stdout.strip().splitlines() or ["no reason given"])[-1]
            raise UnavailableError(f"{PEERS[name].title} can't be set up: {last}")
    (home / _READY).touch()
    return python


def versions(python: Path) -> list[str]:
    """Return what of an environment decides the result."""
    listed = subprocess.run(
        [str(python), "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"],
        stdout=subprocess.PIPE,
        text=True,
    )
    return [line for line in listed.stdout.split() if line.startswith(_TELLING)]


def quantized(name: str, python: Path, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (method, figures with the path of the graph) for each of a peer's calibrators."""
    peer = PEERS[name]
    for method in peer.methods:
        target = folder / f"{name}-{method}.onnx"
        argv = [python, _SCRIPTS / peer.script, folder / "model.onnx", folder / "calibration.npz"]
        found = run([*argv, target, method], folder / f"{name}-{method}.log")
        yield method, found if "failed" in found else {**found, "graph": str(target)}
