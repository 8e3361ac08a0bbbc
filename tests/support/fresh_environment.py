"""The environment of an application: quantd's wheel without its dependencies, and a few packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    distribution,
)
from pathlib import Path

from tests.support.parts import missing_part

REPOSITORY = Path(__file__).parents[2]
RUNTIME_PACKAGES = ("numpy", "opencv-python", "opencv-python-headless", "onnxruntime")
"""Of the two builds of OpenCV an environment has one."""


def fresh_environment(folder: Path, packages: tuple[str, ...] = RUNTIME_PACKAGES) -> Path:
    """Make a virtual environment, and return its Python.

    The packages and what they need are those of this environment, so that nothing is downloaded.

    Args:
        folder: To be made.
        packages: Names of distributions; those that are not here are left out.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(_wheel(folder)) as wheel:
        wheel.extractall(site)
    for found in _with_requirements(packages):
        for file in found.files or ():
            top = file.parts[0]
            if top not in {"..", "__pycache__"} and not (site / top).exists():
                (site / top).symlink_to(Path(str(found.locate_file(top))).resolve())
    return folder / "bin" / "python"


def run_python(python: Path, program: str, *arguments: object) -> str:
    """Run a program and return what it prints; it sees the environment's packages alone."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-I", "-c", program, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, env=environment, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _wheel(folder: Path) -> Path:
    """Build quantd's wheel with pip, which fetches the build backend."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, "."]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        missing_part("the wheel", f"pip can't build it here: {done.stderr.strip()[-300:]}")
    (found,) = folder.glob("quantd-*.whl")
    return found


def _with_requirements(names: tuple[str, ...]) -> Iterator[Distribution]:
    """Yield the distributions and, without their extras, all that they need."""
    wanted, seen = list(names), set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:  # or needed on another platform or Python only
            continue
        yield found
        for requirement in found.requires or ():
            if "extra ==" not in requirement:
                wanted.append(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
