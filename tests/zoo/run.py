"""Which architectures quantd takes, and what INT8 costs them: `make zoo`.

    python -m tests.zoo.run [--only NAME,...] [--jobs N] [--output zoo.json]

Networks with random weights are exported in an environment of their own (requirements.txt), then
quantd's stages run on each file. Each result is written as it is found, so that a run that was
ended continues where it stopped; --only runs the named ones again. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import cv2

from tests.benchmarks.bench_quality import agent_revision
from tests.benchmarks.quality.material import REPOSITORY, images
from tests.benchmarks.run import machine
from tests.zoo.architectures import ARCHITECTURES, TARGETS
from tests.zoo.table import last_error, reasons, render

_HOME = REPOSITORY / ".bench" / "zoo"
_GRAPHS, _PICTURES, _PYTHON = _HOME / "graphs", _HOME / "pictures", _HOME / "venv/bin/python"
_REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_FRAMES = 16
_PATIENCE_S = 1800


def main() -> None:
    """Export, run the stages, print the table and what all took."""
    arguments = _arguments()
    begin = time.monotonic()
    files = [
        f for f, (one, _) in TARGETS.items() if one.name in arguments.only or not arguments.only
    ]
    known: dict[str, Any] = {}
    if arguments.output.exists():
        known = json.loads(arguments.output.read_text())["rows"]
    rows = {
        f: row for f, row in known.items() if f in TARGETS and not (arguments.only and f in files)
    }
    _take_pictures()
    pending = [f for f in files if f not in rows]
    _export([f for f in pending if not (_GRAPHS / f).exists()], arguments.jobs)

    def save() -> None:
        body = {
            "machine": machine(),
            "agent": agent_revision(),
            "rows": {f: rows[f] for f in TARGETS if f in rows},
        }
        arguments.output.write_text(json.dumps(body, indent=1) + "\n")

    with ThreadPoolExecutor(arguments.jobs) as pool:
        running = {pool.submit(_row, file): file for file in pending}
        for done in as_completed(running):
            file, row = running[done], done.result()
            rows[file] = row
            save()
            _say(f"{file}: {'; '.join(reasons(row)) or row['process_cpu_s']}")
    sys.stdout.write(render(rows))
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_min = (spent.ru_utime + spent.ru_stime) / 60
    _say(f"{(time.monotonic() - begin) / 60:.0f} minutes, {cpu_min:.0f} CPU minutes")


def _take_pictures() -> None:
    if _PICTURES.exists():
        return
    _PICTURES.mkdir(parents=True)
    for index, image in enumerate(images("street", _FRAMES)):
        cv2.imwrite(str(_PICTURES / f"{index:03d}.png"), image)


def _export(files: Sequence[str], jobs: int) -> None:
    """Make the graphs that are not there; what fails leaves its output beside."""
    if not files:
        return
    if not _PYTHON.with_name("ready").exists():
        _say("setting up the environment of the exporters (several GB, once) ...")
        subprocess.run([sys.executable, "-m", "venv", _HOME / "venv"], check=True)
        pip = [_PYTHON, "-m", "pip", "install", "--quiet", "--requirement", _REQUIREMENTS]
        subprocess.run(pip, check=True)
        _PYTHON.with_name("ready").touch()
    parts = [files[i::jobs] for i in range(jobs)]
    exporting = [
        subprocess.Popen(
            [_PYTHON, "-m", "tests.zoo.export", _PICTURES, _GRAPHS, *part], cwd=REPOSITORY
        )
        for part in parts
        if part
    ]
    for one in exporting:
        one.wait()


def _row(file: str) -> dict[str, Any]:
    graph = _GRAPHS / file
    if not graph.exists():
        log = graph.with_suffix(".txt")
        return {"not_exported": last_error(log.read_text()) if log.exists() else "not tried"}
    with tempfile.TemporaryDirectory(prefix="quantd-zoo-") as folder:
        argv = [sys.executable, "-m", "tests.zoo.one", graph, _PICTURES, folder]
        try:
            done = subprocess.run(
                argv,
                cwd=REPOSITORY,
                capture_output=True,
                text=True,
                timeout=_PATIENCE_S,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"unexplained: no end after {_PATIENCE_S} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return {"failed": f"unexplained: exit {done.returncode}: {last[:300]}"}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=(), type=_names, help="architectures, run again")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--output", type=Path, default=Path("zoo.json"))
    return parser.parse_args()


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(",")) if text else ()
    unknown = set(names) - {one.name for one in ARCHITECTURES}
    if unknown:
        raise argparse.ArgumentTypeError(f"no architecture is called {', '.join(sorted(unknown))}")
    return names


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
