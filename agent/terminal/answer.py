"""The answer of a run in words."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agent.core.report.cautions import cautions, input_origins
from agent.core.report.change_words import change_sentence
from agent.core.report.overview import display_order, key_figures, occasion
from agent.core.report.wording import (
    circumstances,
    floor,
    given_integers,
    headline,
    intake,
    model_input,
    unknowns,
)
from agent.terminal.candidates import at_rate_table, fitting_table
from agent.terminal.console import console, safe, table


def figures(report: Mapping[str, Any]) -> None:
    """Print what was measured: the table, and the conditions of each candidate's figures.

    Args:
        report: As report.json; of it the model's name, device, environment and candidates.
    """
    screen = console()
    screen.print()
    screen.print(fitting_table(screen, report))
    at_rate = [one for one in report["candidates"] if (one["measured"] or {}).get("at_rate")]
    if at_rate:
        screen.print(at_rate_table(at_rate))
    for one in report["candidates"]:
        screen.print(f"  [bold]{safe(one['id'])}[/bold]: {safe('; '.join(one['reasons']))}")
        words = circumstances(one, report["environment"])
        if words:
            screen.print(f"    measured: {safe(words)}", style="dim")
    for null in unknowns(report["candidates"]):
        text = f"{null.what}: {null.reason} ({', '.join(null.candidates)})"
        screen.print(f"  no value of {safe(text)}", style="dim")


def summary(report: Mapping[str, Any], *, directory: Path, release: Path) -> None:
    """Print the result of a run in the order of its page, and where the files are."""
    screen = console()
    screen.print()
    screen.print(safe(occasion(report)), style="dim")
    screen.print(safe(headline(report)), style="bold")
    screen.print()
    key = key_figures(report)
    if key:
        lines = [
            [one.value, f"{one.name} ({one.detail})" if one.detail else one.name] for one in key
        ]
        table(["", ""], lines)
    careful = cautions(report) or ("nothing stood out in this run",)
    _labelled([("careful", one) for one in careful] + [("input", _fed(report) or "not reported")])
    figures({**report, "candidates": display_order(report)})
    screen.print()
    against = change_sentence(report)
    _labelled([("change", against)] if against else [])
    _labelled(_origins(report))
    places = [("report", f"{directory / 'report.html'}, {directory / 'report.json'}")]
    if report["activation"]["release"]:
        places.insert(0, ("release", f"{release} (what an application loads)"))
    for label, text in places:  # a path is copied, so no line end may come into it
        screen.print(f"[bold]{label:<11}[/bold]{safe(text)}", soft_wrap=True)


def _labelled(lines: Iterable[tuple[str, str]]) -> None:
    """Print lines with a label each, which is not repeated."""
    screen, last = console(), ""
    for label, text in lines:
        screen.print(f"[bold]{'' if label == last else label:<11}[/bold]{safe(text)}")
        last = label


def _fed(report: Mapping[str, Any]) -> str:
    words, origins = model_input(report), input_origins(report)
    return f"{words} ({origins})" if origins else words


def _origins(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return what the figures come from: frames, model, what was done for INT8, the floor."""
    calibration = report["calibration"]
    turned = ", ".join(f"{n} {why}" for why, n in calibration["rejected"].items() if n) or "none"
    yield (
        "frames",
        f"{calibration['frames']} to calibrate, {calibration['holdout']} held out, of "
        f"{calibration['seen']} seen; turned away: {turned}{_taken_over(calibration)}",
    )
    if integers := given_integers(report):
        yield "model", integers
    yield "intake", intake(report["model"]) or "not reported"
    yield "for INT8", "; ".join(report.get("conditioning", [])) or "nothing was tried"
    yield "floor", floor(report) or "not reported"


def next_steps(config: Path, clip: Path) -> None:
    """Print the commands for one's own model and camera.

    Args:
        config: Of the demo.
        clip: The video that its camera showed, to try a model without a camera.
    """
    quantd = "quantd" if shutil.which("quantd") else _nearer(Path(sys.argv[0]))
    where, optimize = _nearer(config), f"{quantd} optimize yours.onnx --camera"
    screen = console()
    screen.print("\nnext, with your own model and camera", style="bold")
    for line in (
        f"{optimize} file://{quote(str(clip.absolute()))}   # the demo's clip",
        f"{optimize} v4l2:///dev/video0   # or csi://0, rtsp://host/path, http://host/path",
        f"{quantd} check-config -c {where}   # what the demo was configured with",
        f"{quantd} doctor -c {where}   # what this machine has and lacks",
    ):
        screen.print(f"  {line}", markup=False, soft_wrap=True)
    screen.print(
        "  what yours.onnx itself does not state is never guessed: the error names the option",
        style="dim",
    )


def _nearer(path: Path) -> str:
    """Return a path as one would type it here."""
    path = path.absolute()
    return shlex.quote(
        str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    )


def _taken_over(calibration: Mapping[str, Any]) -> str:
    """Return what the run took from earlier ones, in words; earlier versions did not report it."""
    words = ""
    if calibration.get("reused"):
        when = calibration["captured"]
        words += "; of an earlier run" + (f", captured {when}" if when else "")
    if calibration.get("scale_captures", 0) > 1:
        words += (
            f"; INT8 scales from {calibration['scale_frames']} frames of "
            f"{calibration['scale_captures']} captures"
        )
    if calibration.get("not_extended"):
        words += f"; earlier statistics not added to: {calibration['not_extended']}"
    return words
