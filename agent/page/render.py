"""report.html: one self-contained page, pictures and plots inside, nothing fetched."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from agent.core.records import PowerTrace, Scenes
from agent.core.report.cautions import cautions, input_origins
from agent.core.report.change_words import change_sentence, changes
from agent.core.report.document import Report
from agent.core.report.figures import AT_RATE_FIGURES, FIGURES, Row
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
from agent.page.plots import plots
from agent.page.rows import Cell, bars, cells, looks
from agent.page.scenes import shown_scenes
from agent.page.templates import template


def render(
    report: Report,
    pictures: Sequence[bytes] = (),
    sketches_ms: Mapping[str, Sequence[float]] | None = None,
    traces: Sequence[PowerTrace] = (),
    scenes: Scenes | None = None,
    frames: Mapping[str, bytes] | None = None,
) -> str:
    """Return the page.

    Args:
        report: The run; all that the page needs.
        pictures: JPEGs of sample calibration frames.
        sketches_ms: Order statistics of the latencies by candidate id.
        traces: Of power, one for each time that candidates were measured together.
        scenes: What FP32 and the chosen engine find on a few holdout frames.
        frames: JPEGs of these frames, by their name.
    """
    scenes = scenes or Scenes()
    document = asdict(report)
    rows = display_order(document)
    by_id = {one.id: one for one in report.candidates}
    ordered = [by_id[one["id"]] for one in rows]
    drawn_as = looks(rows)
    return template("report.html.j2").render(
        report=report,
        occasion=occasion(document),
        headline=headline(document),
        key_figures=key_figures(document),
        cautions=cautions(document),
        model_input=model_input(document),
        input_origins=input_origins(document),
        scenes=shown_scenes(
            scenes.scenes,
            frames or {},
            colours={name: f"var(--{look.css})" for name, look in drawn_as.items()},
        ),
        scenes_reason=scenes.reason,
        rows=ordered,
        looks=drawn_as,
        bars=bars(rows),
        front=cells(rows, [one for one in FIGURES if one.front]),
        change_sentence=change_sentence(document),
        changes=changes(document),
        tables=list(_tables(rows)),
        plots=plots(report, ordered, drawn_as, sketches_ms or {}, traces),
        conditions={one["id"]: words for one in rows if (words := _conditions(one, document))},
        unknowns=unknowns(rows),
        floor=floor(document),
        integers=given_integers(document),
        intake=intake(document["model"]),
        pictures=[base64.b64encode(one).decode("ascii") for one in pictures],
    )


def _tables(rows: Sequence[Row]) -> Iterator[tuple[str, str, Mapping[str, list[Cell]]]]:
    """Return title, words and cells by candidate of the tables below."""
    measured = [one for one in rows if one["measured"]]
    further = cells(measured, [one for one in FIGURES if not one.front])
    if measured and further[measured[0]["id"]]:
        yield "More figures", "", further
    paced = [one for one in measured if one["measured"].get("at_rate")]
    if paced:
        yield (
            f"At {paced[0]['measured']['at_rate']['rate_fps']:g} FPS",
            "At the application's frame rate, resting between inferences; power and energy are "
            "judged here. A frame is dropped when a newer one comes while the engine is busy.",
            cells(paced, AT_RATE_FIGURES),
        )


def _conditions(one: Row, document: Row) -> str:
    """Return how a candidate was measured, and why an interval is missing."""
    words = circumstances(one, document["environment"])
    missing = words and one["measured"]["latency_ms"]["ci95_reason"]
    return f"{words}; no interval: {missing}" if missing else words
