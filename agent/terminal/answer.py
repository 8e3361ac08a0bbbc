"""The answer of a run in words."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.core.report.wording import (
    circumstances,
    floor,
    given_integers,
    headline,
    intake,
    model_input,
    still_scene,
    unknowns,
)
from agent.terminal.candidates import at_rate_table, fitting_table
from agent.terminal.console import console, safe


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
    """Print the result of a run: its figures, the choice and why, and where the files are."""
    figures(report)
    screen = console()
    choice = report["choice"]
    screen.print()
    screen.print(safe(headline(report)), style="bold")
    calibration = report["calibration"]
    turned = ", ".join(f"{n} {why}" for why, n in calibration["rejected"].items() if n) or "none"
    screen.print()
    still, integers = still_scene(calibration), given_integers(report)
    for label, text in (
        ("frames", f"{calibration['frames']} to calibrate, {calibration['holdout']} held out, of "
                   f"{calibration['seen']} seen; turned away: {turned}"
                   + (" (SYNTHETIC)" if calibration["synthetic"] else "")
                   + (f"; {still}" if still else "")
                   + _taken_over(calibration)),
        *([("model", integers)] if integers else []),
        ("input", model_input(report) or "not reported"),
        ("intake", intake(report["model"]) or "not reported"),
        ("for INT8", "; ".join(report.get("conditioning", [])) or "nothing was tried"),
        ("floor", floor(report) or "not reported"),
        ("choice", choice["why"]),
        ("activation", _activation(report["activation"])),
    ):  # fmt: skip
        screen.print(f"[bold]{label:<11}[/bold]{safe(text)}")
    places = [("report", f"{directory / 'report.html'}, {directory / 'report.json'}")]
    if report["activation"]["release"]:
        places.insert(0, ("release", f"{release} (what an application loads)"))
    for label, text in places:  # a path is copied, so no line end may come into it
        screen.print(f"[bold]{label:<11}[/bold]{safe(text)}", soft_wrap=True)


def next_steps(config: Path) -> None:
    """Print the commands for one's own model and camera."""
    quantd = "quantd" if shutil.which("quantd") else _nearer(Path(sys.argv[0]))
    where = _nearer(config)
    screen = console()
    screen.print("\nnext, with your own model and camera", style="bold")
    for line in (
        f"{quantd} check-config -c {where}   # what a configuration contains",
        f"{quantd} optimize -c {where} --model yours.onnx --camera v4l2:///dev/video0",
        f"{quantd} doctor -c {where}   # what this machine has and lacks",
    ):
        screen.print(f"  {line}", markup=False, soft_wrap=True)


def _nearer(path: Path) -> str:
    """Return a path as one would type it here."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


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


def _activation(activation: Mapping[str, Any]) -> str:
    detail = f" ({activation['detail']})" if activation.get("detail") else ""
    release = f", release {activation['release']}" if activation["release"] else ""
    return f"{activation['state'].replace('_', ' ')}{release}{detail}"
