"""A recorded run becomes the same report.json, page and terminal text, byte for byte.

`golden/*.records.json` are the records of a real run on ONNX Runtime, completed by hand so that
every optional part is there once. After an intended change write the expected files again with
`python -m tests.core.report.test_golden`, and read their difference.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import get_type_hints

import msgspec
import pytest

from agent import terminal
from agent.core.records import PowerTrace, PowerWindow
from agent.core.report.document import Report, compose
from agent.run.report import encode

_GOLDEN = Path(__file__).with_name("golden")
_RUNS = ("chosen", "infeasible")
_WINDOW = PowerWindow(candidate="int8-minmax", kind="flat out", begin_s=1.0, end_s=2.0)
_TRACE = PowerTrace(points=((1.0, 5.0), (2.0, 5.4)), windows=(_WINDOW,))


def recorded(run: str) -> tuple[Report, dict[str, tuple[float, ...]]]:
    """Return the report of a recorded run, and the sketches of its latencies."""
    records = json.loads((_GOLDEN / f"{run}.records.json").read_bytes())
    kinds = get_type_hints(compose)
    arguments = {key: msgspec.convert(value, kinds[key]) for key, value in records.items()}
    measured = {one.id: one.measurement for one in arguments["candidates"] if one.measurement}
    return compose(**arguments), {name: one.sketch_ms for name, one in measured.items()}


def page(run: str) -> str:
    """Return report.html, of which the style sheet is left out."""
    from agent.page.render import render

    report, sketches_ms = recorded(run)
    shown = render(report, [b"\xff\xd8"], sketches_ms, [_TRACE])
    return re.sub(r"<style>.*?</style>", "<style/>", shown, flags=re.DOTALL)


def text(run: str) -> str:
    """Return what `quantd report` prints, without the blanks that end the lines of a table."""
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown):
        report = json.loads(encode(recorded(run)[0]))
        terminal.summary(report, directory=Path("out"), release=Path("state/current"))
    return re.sub(r" +$", "", shown.getvalue(), flags=re.MULTILINE)


def expected(name: str) -> str:
    return (_GOLDEN / name).read_text("utf-8")


@pytest.mark.parametrize("run", _RUNS)
def test_report_json_is_as_recorded(run):
    assert encode(recorded(run)[0]).decode() == expected(f"{run}.json")


@pytest.mark.parametrize("run", _RUNS)
def test_the_terminal_shows_what_it_showed(run):
    assert text(run) == expected(f"{run}.txt")


@pytest.mark.parametrize("run", _RUNS)
def test_the_page_shows_what_it_showed(run):
    assert page(run) == expected(f"{run}.html")


@pytest.mark.parametrize("run", _RUNS)
def test_report_json_alone_makes_a_page(run):
    from agent.page.render import render

    report = recorded(run)[0]
    assert render(msgspec.json.decode(encode(report), type=Report)) == render(report)


if __name__ == "__main__":
    for each in _RUNS:
        (_GOLDEN / f"{each}.json").write_bytes(encode(recorded(each)[0]))
        (_GOLDEN / f"{each}.txt").write_text(text(each), "utf-8")
        (_GOLDEN / f"{each}.html").write_text(page(each), "utf-8")
