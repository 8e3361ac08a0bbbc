"""report.html: one self-contained page, pictures and plots inside, nothing fetched."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from agent.core.records import PowerTrace, Scenes
from agent.core.report.document import Report
from agent.core.report.figures import AT_RATE_FIGURES, FIGURES, Figure, shown_figures
from agent.core.report.wording import (
    circumstances,
    escape_unprintable,
    floor,
    given_integers,
    headline,
    intake,
    still_scene,
    unknowns,
)
from agent.page.plots import plots
from agent.page.scenes import shown_scenes


def render(
    report: Report,
    pictures: Sequence[bytes],
    sketches_ms: Mapping[str, Sequence[float]],
    traces: Sequence[PowerTrace] = (),
    scenes: Scenes | None = None,
    frames: Mapping[str, bytes] | None = None,
) -> str:
    """Return the page.

    Args:
        report: The run.
        pictures: JPEGs of sample calibration frames.
        sketches_ms: Order statistics of the latencies by candidate id.
        traces: Of power, one for each time that candidates were measured together.
        scenes: What FP32 and the chosen engine find on a few holdout frames.
        frames: JPEGs of these frames, by their name.
    """
    scenes = scenes or Scenes()
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    ).get_template("report.html.j2")
    rows = [asdict(one) for one in report.candidates]
    return template.render(
        report=report,
        headline=headline(asdict(report)),
        tables=[_table(rows, FIGURES), _table(rows, AT_RATE_FIGURES)],
        plots=plots(report, sketches_ms, traces),
        unknowns=unknowns(rows),
        floor=floor(asdict(report)),
        integers=given_integers(asdict(report)),
        intake=intake(asdict(report.model)),
        still=still_scene(asdict(report.calibration)),
        circumstances={one["id"]: circumstances(one, report.environment) for one in rows},
        scenes=shown_scenes(scenes.scenes, frames or {}, colours={}),
        scenes_reason=scenes.reason,
        pictures=[base64.b64encode(one).decode("ascii") for one in pictures],
    )


def _table(
    rows: Sequence[Mapping[str, Any]], figures: Sequence[Figure]
) -> tuple[list[str], dict[str, list[tuple[str, str]]]]:
    """Return the titles of the columns, and the (text, tooltip) of every cell by candidate."""
    shown = shown_figures(figures, "page", rows)
    cells = {
        one["id"]: [(figure.cell(one, figure.page), figure.tooltip(one)) for figure in shown]
        for one in rows
    }
    return [figure.page for figure in shown], cells


def _shown(value: object) -> object:
    """Escape text from outside; what was drawn here is markup and stays."""
    return (
        escape_unprintable(value)
        if isinstance(value, str) and not isinstance(value, Markup)
        else value
    )
