"""What is shown: nulls, narrow terminals, log files, and texts that are not ours."""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent import terminal
from agent.core.frames.camera_uri import camera_kind, path_of
from agent.core.prediction.run_time import Part, RunTime
from agent.core.records import UNPREDICTED
from agent.run.report import encode
from tests.support.candidates import at_rate, candidate, evaluation, measurement
from tests.support.reports import report_of

HOSTILE = "[red]x[/red] :warning: \x1b[31mq\r caf\udce9"
PLACES = ("release ", "report ")
HARMLESS = "[red]x[/red] :warning: \\x1b[31mq\\r caf\\udce9"
CANDIDATES = (
    candidate("fp32", measurement(10.0), evaluation(None, memory_mb=200)),
    candidate("int8-mse", measurement(5.0, p99=7.5, power_w=3.0), evaluation(31.0, agreement=0.9)),
    candidate("fp16", failure="no kernels"),
)


class Screen(io.StringIO):
    """A terminal as far as isatty goes; its width is in COLUMNS."""

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        """Return what was written without colours and movements of the cursor."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


@pytest.fixture
def screen(monkeypatch):
    """Return a function that makes standard error a terminal so wide."""

    def of(width: int) -> Screen:
        found = Screen()
        monkeypatch.setattr(sys, "stderr", found)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm")  # a dumb one is always 80 wide
        return found

    return of


def summarized(candidates, *, text="small", limits=None) -> None:
    report = json.loads(encode(report_of(candidates, text=text, limits=limits)))
    terminal.summary(report, directory=Path("out"), release=Path("state/current"))


def row(shown: str, name: str) -> list[str]:
    return next(line.split() for line in shown.splitlines() if line.startswith(f" {name} "))


def test_a_log_file_gets_every_column_and_a_dash_for_every_null(capsys):
    summarized(CANDIDATES)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "\x1b" not in shown.err
    assert row(shown.err, "fp32") == [
        "fp32", "-", "10.00", "-", "10.00", "100.0", "-", "200", "exact", "-", "feasible",
    ]  # fmt: skip
    assert row(shown.err, "int8-mse") == [
        "int8-mse", "-", "5.00", "-", "7.50", "200.0", "3.00", "W", "100", "31.0", "top1", "0.900",
        "chosen",
    ]  # fmt: skip
    assert row(shown.err, "fp16") == ["fp16", *"-" * 9, "rejected"]
    assert "no value of power, energy: no power sensor (fp32)" in shown.err
    assert "fp16: no kernels" in shown.err


def test_a_doubtful_number_has_a_mark_that_is_explained(capsys):
    summarized([CANDIDATES[0], candidate("fp16", measurement(7.0, steady=False), evaluation())])
    shown = capsys.readouterr().err
    assert row(shown, "fp16")[2] == "7.00*"
    assert "* doubtful, see the reasons" in shown
    summarized(CANDIDATES)
    assert "doubtful" not in capsys.readouterr().err


def test_a_number_stands_with_its_conditions(capsys):
    hot = replace(CANDIDATES[1], measurement=replace(CANDIDATES[1].measurement, temp_c=61.4))
    summarized([hot])
    shown = " ".join(capsys.readouterr().err.split())
    assert "measured: 1000 inferences in 5 rounds, up to 61 °C, power of VDD_IN" in shown
    assert "by ina3221 every 0.1 s (100 samples over 100% of the windows)" in shown


def test_a_log_file_is_as_wide_as_the_table(capsys):
    name = f"int8-{'x' * 150}"
    summarized([candidate(name, measurement(5.0), evaluation(31.0))])
    assert row(capsys.readouterr().err, name)[-1] == "chosen"


@pytest.mark.parametrize("width", [35, 60, 80, 100, 200])
def test_a_narrow_terminal_loses_whole_columns_and_names_them(screen, width):
    stream = screen(width)
    guessed = replace(
        CANDIDATES[1], predicted=replace(UNPREDICTED, latency_p50_ms=6.0, basis="a roofline")
    )
    summarized([CANDIDATES[0], guessed])
    lines = stream.text().splitlines()
    assert "…" not in stream.text()
    assert max(len(line.rstrip()) for line in lines if not line.startswith(PLACES)) <= width
    found = row(stream.text(), "int8-mse")
    assert {"5.00", "chosen"} <= set(found)
    assert ("too narrow for: predicted" in stream.text()) == ("6.00" not in found)
    assert (width >= 120) == ("6.00" in found)


def test_nothing_to_choose_from_is_shown_without_a_release(capsys):
    summarized([])
    shown = capsys.readouterr().err
    assert "no candidate is usable: there is none" in shown
    assert "not attempted (small)" in shown
    assert "None" not in shown
    assert "state/current" not in shown


def test_paths_are_not_broken(screen):
    stream = screen(40)
    report = json.loads(encode(report_of(CANDIDATES)))
    folder = Path("a folder with a long name/in another one/of many")
    terminal.summary(report, directory=folder, release=folder)
    assert f"report     {folder}/report.html, {folder}/report.json" in stream.text()


def test_a_report_of_an_earlier_version_is_shown(capsys):
    report = json.loads(encode(report_of(CANDIDATES)))
    for one in report["candidates"]:
        for key in ("agreement", "agreement_reason"):
            one["fidelity"] and one["fidelity"].pop(key)
    terminal.summary(report, directory=Path("out"), release=Path("current"))
    assert "agreement" not in capsys.readouterr().err


def test_texts_from_outside_are_neither_obeyed_nor_read_as_markup(capsys):
    summarized([candidate("fp16", failure=HOSTILE)], text=HOSTILE)
    terminal.table(["", "seen"], [["PROBLEM", HOSTILE]])
    terminal.show(HOSTILE)
    with terminal.ProgressBars() as bars:
        bars.update("capture", 1, 2, HOSTILE)
    shown = capsys.readouterr().err
    assert shown.count(HARMLESS) >= 6
    assert not set(shown) & {"\x1b", "\r", "\udce9", "⚠"}


def test_a_line_stays_a_line(capsys):
    terminal.show("word " * 100)
    assert capsys.readouterr().err.count("\n") == 1


def test_a_table_without_titles_has_no_empty_line_above(capsys):
    terminal.table(["", ""], [["device", "cam-1"], ["last run", "none"]])
    assert capsys.readouterr().err == "device    cam-1\nlast run  none \n"


def test_a_log_file_gets_the_first_and_the_last_line_of_a_stage(capsys):
    with terminal.ProgressBars() as bars:
        for done in range(101):
            bars.update("measure", done, 100, f"round {done}")
        bars.update("build", 0, 0, "")
    assert capsys.readouterr().err.splitlines() == [
        "measure       0 % round 0",
        "measure     100 % round 100",
        "build",
    ]


def test_bars_on_a_terminal_name_the_stages(screen):
    stream = screen(80)
    with terminal.ProgressBars() as bars:
        bars.update("capture", 3, 3, "kept 3")
        bars.update("build", 0, 0, "[bold]fp32[/bold]" + "x" * 200)
    shown = stream.text()
    assert "capture" in shown
    assert "100 %" in shown


EXPECTED = RunTime(
    parts=(
        Part(name="capture", seconds=60.0, basis="the window"),
        Part(name="make", seconds=None, basis="never run"),
    )
)


def test_a_log_file_gets_the_expected_time_and_what_is_left(capsys):
    with terminal.ProgressBars() as bars:
        bars.update("platform", 0, 0, "")
        bars.announce(EXPECTED)
        bars.update("capture", 0, 60, "")
        bars.update("capture", 60, 60, "kept 3")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "platform"
    assert lines[1:4] == [
        "expected    at least 1 min",
        "            capturing: 1 min, the window",
        "            quantizing, building and evaluating: not known, never run",
    ]
    assert lines[4] == "capture       0 %   at least 1 min left"
    assert lines[5] == "capture     100 % kept 3"


def test_bars_on_a_terminal_show_the_whole_run(screen):
    stream = screen(160)
    with terminal.ProgressBars() as bars:
        bars.announce(EXPECTED)
        bars.update("capture", 0, 60, "")
    shown = stream.text()
    assert "whole run" in shown
    assert "at least 1 min left" in shown


def test_next_steps_are_commands_for_any_model(capsys, monkeypatch, tmp_path):
    """Those with the demo's own configuration failed with any other model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "bin" / "quantd")])
    demo = tmp_path / "my demo"
    terminal.next_steps(demo / "quantd.toml", demo / "camera.mp4")
    shown = capsys.readouterr().err
    assert "doctor -c 'my demo/quantd.toml'" in shown
    lines = [line.partition("   #")[0] for line in shown.splitlines()]
    commands = [shlex.split(line) for line in lines if " optimize " in line]
    assert len(commands) == 2
    for _, verb, *options in commands:
        assert (verb, options[:2]) == ("optimize", ["yours.onnx", "--camera"])
        assert camera_kind(options[2])
    assert path_of(commands[0][-1]) == str(demo / "camera.mp4")


def test_what_was_measured_at_a_frame_rate_has_a_table_of_its_own(screen):
    paced = replace(measurement(5.0), at_rate=at_rate(30.0, power_w=3.0, dropped=0.25))
    shown = screen(160)
    summarized([candidate("int8-mse", paced, evaluation(31.0)), CANDIDATES[0]])
    text = shown.text()
    assert "at 30 FPS" in text
    rated = text[text.index("at 30 FPS") :].split("  fp32:")[0]
    assert " ".join(row(rated, "int8-mse")) == "int8-mse 12.00 12.00 22.5 25.0% 3.00 W 133.3 mJ"
    assert "fp32" not in rated
    summarized(CANDIDATES)
    assert "at 30 FPS" not in shown.text()[len(text) :]
