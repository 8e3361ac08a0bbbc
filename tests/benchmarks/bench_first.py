"""The first five minutes, beside Ultralytics' own export to INT8: `make bench-first`.

    python -m tests.benchmarks.bench_first [--side PIXELS] [--markdown] [--output bench-first.json]

Both begin with the same untrained network and end with an INT8 file for this CPU. Ultralytics
calibrates with pictures of a data set that must exist (here, frames of the camera's own video) and
stops there; quantd captures from the camera, and also measures, judges, chooses and activates.
Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2

from agent.demo.material import street_video
from tests.benchmarks.quality.material import REPOSITORY, images
from tests.benchmarks.run import machine

_HOME = REPOSITORY / ".bench" / "first"
_BIN = _HOME / "venv/bin"
_REQUIREMENTS = Path(__file__).with_name("first_requirements.txt")
_NETWORK = "yolo11n"
_FRAMES = 128
_DATA = "path: .\ntrain: images\nval: images\nnames: {0: object}\n"


@dataclass(frozen=True, kw_only=True)
class Route:
    """What a user types, and what came of it.

    Attributes:
        commands: As typed, without the folders of the programs.
        configuration_lines: What had to be written first.
        first_line_s: From the first command's start to its first line of output.
        result_s: From the first command's start to the last one's end.
        ends_with: What is there then.
        exit_codes: Of the commands.
    """

    name: str
    commands: tuple[str, ...]
    configuration_lines: int
    first_line_s: float
    result_s: float
    ends_with: str
    exit_codes: tuple[int, ...]


def main() -> None:
    """Run the routes one after the other, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--output", type=Path, default=Path("bench-first.json"))
    arguments = parser.parse_args()
    _prepare()
    found: list[Route] = []
    for route in (_ultralytics, partial(_quantd, "--fast"), _quantd):
        found.append(route(side=arguments.side))
        body = {"machine": machine(), "side": arguments.side, "routes": [asdict(r) for r in found]}
        arguments.output.write_text(json.dumps(body, indent=1) + "\n")
    sys.stdout.write(_table(found))


def _table(found: Sequence[Route]) -> str:
    lines = [
        "| route | commands | lines of configuration | first line, s | result, s | ends with |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.name} | {len(r.commands)} | {r.configuration_lines} | {r.first_line_s:.1f} "
        f"| {r.result_s:.0f} | {r.ends_with} |"
        for r in found
    ]
    lines += [f"$ {command}" for r in found for command in r.commands]
    return "\n".join(lines) + "\n"


def _prepare() -> None:
    """Make the environment of the exporter, the network, and the data set that it asks for."""
    if not (_BIN / "ready").exists():
        sys.stderr.write("setting up the environment of Ultralytics (several GB, once) ...\n")
        subprocess.run([sys.executable, "-m", "venv", _HOME / "venv"], check=True)
        pip = [_BIN / "python", "-m", "pip", "install", "--quiet", "--requirement", _REQUIREMENTS]
        subprocess.run(pip, check=True)
        (_BIN / "ready").touch()
    code = f"from ultralytics import YOLO; YOLO('{_NETWORK}.yaml').save('{_NETWORK}.pt')"
    subprocess.run([_BIN / "python", "-c", code], cwd=_HOME, check=True, capture_output=True)
    for folder in ("images", "labels"):
        (_HOME / folder).mkdir(exist_ok=True)
    for index, image in enumerate(images("street", _FRAMES)):
        cv2.imwrite(str(_HOME / f"images/{index:03d}.png"), image)
        (_HOME / f"labels/{index:03d}.txt").touch()
    (_HOME / "data.yaml").write_text(_DATA)


def _ultralytics(side: int) -> Route:
    command = (
        f"yolo export model={_NETWORK}.pt format=openvino int8=True data=data.yaml imgsz={side}"
    )
    return _timed(
        "Ultralytics, OpenVINO INT8", [command], len(_DATA.splitlines()),
        "an INT8 file, not measured, not compared with FP32",
    )  # fmt: skip


def _quantd(*options: str, side: int) -> Route:
    shutil.rmtree(_HOME / f"quantd-{_NETWORK}", ignore_errors=True)  # of an earlier run
    commands = [
        f"yolo export model={_NETWORK}.pt format=onnx imgsz={side}",
        f"quantd optimize {_NETWORK}.onnx --camera file://{street_video()} {' '.join(options)}",
    ]
    return _timed(
        " ".join(["quantd", *options]), commands, 0,
        "all candidates measured and compared with FP32, one active, a report",
    )  # fmt: skip


def _timed(name: str, commands: Sequence[str], lines: int, ends_with: str) -> Route:
    begin = time.monotonic()
    first, codes = 0.0, []
    for command in commands:
        program, *arguments = command.split()
        where = _BIN if program == "yolo" else Path(sys.executable).parent
        child = subprocess.Popen(
            [where / program, *arguments], cwd=_HOME, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert child.stdout is not None
        for line in child.stdout:
            first = first or time.monotonic() - begin
            sys.stderr.write(line)
        codes.append(child.wait())
    return Route(
        name=name, commands=tuple(c.replace(str(street_video()), "clip.mp4") for c in commands),
        configuration_lines=lines, first_line_s=first, result_s=time.monotonic() - begin,
        ends_with=ends_with, exit_codes=tuple(codes),
    )  # fmt: skip


if __name__ == "__main__":
    main()
