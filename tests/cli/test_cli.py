"""The command line: help, usage, errors and exit codes; stdout has results only."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from agent import config as configuration
from agent.cli import main
from agent.core.records import Activation
from agent.run.report import encode
from agent.verbs import VERBS, daily
from agent.wiring.exclusive import exclusive
from tests.support.candidates import candidate, evaluation, measurement
from tests.support.reports import report_of

NAMES = [verb.name for verb in VERBS]
WITH_JSON = [v.name for v in VERBS if any("--json" in flags for flags, _ in v.options)]
CONFIGURED = [v.name for v in VERBS if any("--config" in flags for flags, _ in v.options)]


@pytest.fixture(autouse=True)
def _sigterm_stays_ours():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def quantd(capsys):
    """Return a function that runs a command line: its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = leaving.code
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def config(tmp_path) -> Path:
    """Return a configuration with the reports of two runs in its storage."""
    found = [candidate("fp32", measurement(10.0), evaluation(None))]
    for name in ("20261101T000000000-aaaa", "20261102T000000000-bbbb"):
        folder = tmp_path / "state" / "runs" / name
        folder.mkdir(parents=True)
        (folder / "report.json").write_bytes(encode(report_of(found, text=name)))
    return written(tmp_path, camera={"uri": "synthetic://"})


def written(folder: Path, **tables: dict[str, object]) -> Path:
    tables = {"storage": {"dir": str(folder / "state")}, **tables}
    lines = []
    for table, keys in tables.items():
        lines.append(f"[{table}]")
        lines += [
            f"{key} = {value if isinstance(value, float) else json.dumps(value)}"
            for key, value in keys.items()
        ]
    (folder / "quantd.toml").write_text("\n".join(lines))
    return folder / "quantd.toml"


@pytest.mark.parametrize("name", NAMES)
def test_every_verb_explains_itself(quantd, name):
    code, out, err = quantd(name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: quantd {name}")
    (verb,) = [verb for verb in VERBS if verb.name == name]
    assert verb.summary[1:20] in " ".join(out.split())
    for flags, _ in verb.options:
        assert flags[-1] in out


def test_the_first_help_names_every_verb_and_the_exit_codes(quantd):
    code, out, _ = quantd("--help")
    assert code == 0
    assert all(re.search(rf"^    {name}( |$)", out, re.MULTILINE) for name in NAMES)
    assert "exit codes: 0 done, 1 failed, 2 usage" in out


def test_the_version_is_printed(quantd):
    assert quantd("--version")[:2] == (0, "quantd 0.1.0\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["optimise"], "optimise"),
        (["job"], "job"),
        (["job", "a", "b"], "job"),
        (["status", "-c"], "--config"),
        (["status", "-c", "x.toml", "--jsn"], "--jsn"),
        (["optimize", "-c", "x.toml", "--runtime", "tflite"], "tflite"),
        (["demo", "--window-s", "soon"], "soon"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_exit_code_2(quantd, arguments, words):
    code, out, err = quantd(*arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert "usage: quantd" in err
    assert "--help` lists the options" in err


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["optimise", "--json"], "optimize"),
        (["stats"], "status"),
        (["rollbak"], "rollback"),
        (["status", "--jsn"], "--json"),
        (["status", "--confg=x.toml"], "--config"),
        (["optimize", "--camra", "csi://0"], "--camera"),
        (["demo", "--window", "3", "--durations-s", "3"], "--duration-s"),
        (["frobnicate"], ""),
        (["status", "surplus"], ""),
    ],
    ids=str,
)
def test_what_was_probably_meant_is_suggested(quantd, arguments, meant):
    code, _, err = quantd(*arguments)
    assert code == 2
    assert (f"hint:  did you mean {meant}? `quantd " in err) is bool(meant)
    assert ("did you mean" in err) is bool(meant)
    verb = arguments[0] if arguments[0] in NAMES else ""
    assert f"usage: quantd {verb}" in err


@pytest.mark.parametrize("name", WITH_JSON)
def test_wrong_usage_is_json_too(quantd, name):
    code, out, err = quantd(name, "--json", "--bogus")
    assert code == 2
    error = json.loads(out)["error"]
    assert error["code"] == "usage"
    assert error["hint"]
    assert error["message"] in err


def test_what_is_not_utf8_is_wrong_usage(quantd, config):
    code, out, err = quantd("check-config", "-c", config, "--json", "--camera", "images:///\udce9")
    assert code == 2
    assert "UTF-8" in json.loads(out)["error"]["message"]
    assert "images:///\\udce9" in err
    err.encode()


@pytest.mark.parametrize("name", CONFIGURED)
def test_a_bad_configuration_is_exit_code_2_for_every_verb(quantd, tmp_path, name):
    path = written(tmp_path, camera={"uri": "synthetic://", "fpz": 15})
    more = ["--json"] if name in WITH_JSON else ["r1"] if name == "pin" else []
    code, out, err = quantd(name, "-c", path, *more)
    assert code == 2
    assert "unknown key camera.fpz" in err
    assert "hint:  did you mean camera.fps?" in err
    if name in WITH_JSON:
        assert json.loads(out)["error"]["code"] == "bad_config"
    else:
        assert out == ""


@pytest.mark.parametrize(
    ("tables", "key", "hint"),
    [
        ({"measure": {"duration_s": "30 s"}}, "measure.duration_s", ""),
        ({"limits": {"sqnr_db": 900.0}}, "limits.sqnr_db", "0 to 200"),
        ({"nonsense": {}}, "nonsense", ""),
        ({"search": {"precisions": ["int4"]}}, "search.precisions", "int8-mixed"),
    ],
    ids=["wrong type", "out of range", "unknown table", "unknown word"],
)
def test_a_bad_configuration_names_the_key(quantd, tmp_path, tables, key, hint):
    code, out, _ = quantd("check-config", "-c", written(tmp_path, **tables), "--json")
    error = json.loads(out)["error"]
    assert code == 2
    assert key in error["message"]
    assert hint in error["hint"]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("key", ["scale", "mean", "std"])
def test_a_number_that_is_none_is_refused(quantd, tmp_path, key, value):
    path = tmp_path / "quantd.toml"
    shown = value if key == "scale" else f"[{value}]"
    path.write_text(f"[model.input]\n{key} = {shown}\n")
    code, out, _ = quantd("check-config", "-c", path, "--json")
    assert code == 2
    assert f"model.input.{key}" in json.loads(out)["error"]["message"]


def test_a_configuration_that_is_not_there_is_exit_code_2(quantd, tmp_path):
    code, out, err = quantd("status", "-c", tmp_path / "none.toml")
    assert (code, out) == (2, "")
    assert "none.toml: cannot be read: No such file" in err


@pytest.mark.parametrize(
    "name", ["optimize", "run", "activate", "capture", "quantize", "build", "measure", "choose"]
)
def test_a_run_without_a_model_is_exit_code_2(quantd, config, name):
    code, _, err = quantd(name, "-c", config)
    assert code == 2
    assert "model.path is empty" in err
    assert "hint:" in err


def test_check_config_shows_where_each_value_comes_from(quantd, config):
    code, out, _ = quantd("check-config", "-c", config, "--camera", "csi://0")
    assert code == 0
    lines = out.splitlines()
    assert 'camera.uri = "csi://0"    # command line' in lines
    assert "camera.fps = 15.0    # default" in lines
    assert next(line for line in lines if line.startswith("storage.dir")).endswith(f"# {config}")


def test_check_config_questions_pixels_that_are_probably_not_what_is_meant(quantd, tmp_path):
    tables = {"model": {"path": "m.onnx"}, "model.input": {"mean": [0.485, 0.456, 0.406]}}
    code, _, err = quantd("check-config", "-c", written(tmp_path, **tables))
    assert code == 0
    assert "note: model.input.mean and std look like those of pixels 0..1, but scale = 1" in err


@pytest.mark.parametrize(
    ("tables", "floor", "origin"),
    [
        ({}, {"limit": "sqnr_db", "bound": 20.0, "default": True}, "default"),
        (
            {"model.task": {"kind": "segmentation"}},
            {"limit": "agreement", "bound": 0.95, "default": True},
            "default",
        ),
        ({"limits": {"sqnr_db": 0}}, {"limit": "sqnr_db", "bound": 0.0, "default": False}, None),
    ],
)
def test_check_config_shows_the_fidelity_floor(quantd, tmp_path, tables, floor, origin):
    path = written(tmp_path, **tables)
    code, out, _ = quantd("check-config", "-c", path)
    assert code == 0
    line = f"# fidelity floor: limits.{floor['limit']} = {floor['bound']:g}    # {origin or path}"
    assert line in out.splitlines()
    found = json.loads(quantd("check-config", "-c", path, "--json")[1])
    assert found["floor"] == floor
    unset = {key for key, value in found["config"]["limits"].items() if value is None}
    assert unset == {"sqnr_db", "agreement"} - {*tables.get("limits", {})}


@pytest.mark.parametrize("options", [[], ["--json"]], ids=str)
def test_check_config_warns_of_a_set_key_without_effect(quantd, tmp_path, options):
    path = written(tmp_path, drift={"check_every_s": 900.0})  # even to its default
    code, _, err = quantd("check-config", "-c", path, *options)
    assert code == 0
    assert "drift.check_every_s is set, but has no effect" in err


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"password_file": "/none/secret"}, "/none/secret"),
        ({"tls.ca": "/none/ca.pem"}, "/none/ca.pem"),
    ],
    ids=str,
)
def test_check_config_notes_a_file_of_the_connection_that_is_missing(quantd, tmp_path, keys, named):
    """The daemon starts without it; a person has to know before."""
    path = written(tmp_path, mqtt={"host": "broker", **keys})
    code, _, err = quantd("check-config", "-c", path)
    assert code == 0
    assert named in err
    assert "note: " in err


def test_check_config_notes_a_reload_that_the_unit_refuses(quantd, tmp_path):
    path = written(tmp_path, activation={"reload": ["systemctl", "reload", "my-app"]})
    code, _, err = quantd("check-config", "-c", path)
    assert code == 0
    assert "note: activation.reload: `systemctl`" in err
    assert "reload.sh" in err


@pytest.mark.parametrize("arguments", [["check-config"], ["status"], ["report"]], ids=str)
def test_stdout_is_one_json_document_and_nothing_else(quantd, config, arguments):
    code, out, err = quantd(*arguments, "-c", config, "--json")
    assert (code, err) == (0, "")
    assert isinstance(json.loads(out), dict)


def test_without_json_a_table_is_on_stderr(quantd, config):
    code, out, err = quantd("report", "-c", config)
    assert (code, out) == (0, "")
    assert "20261102T000000000-bbbb" in err


def test_a_report_is_found_by_its_run(quantd, config):
    _, out, _ = quantd("report", "20261101T000000000-aaaa", "-c", config, "--json")
    assert json.loads(out)["device"] == "20261101T000000000-aaaa"
    _, out, _ = quantd("report", "-c", config, "--json")
    assert json.loads(out)["device"] == "20261102T000000000-bbbb"


@pytest.mark.parametrize("run", ["none", "*", "a**b", "/", "..", "../runs/x", "\x00"])
def test_an_unknown_run_is_an_error_that_names_the_known_ones(quantd, config, run):
    code, out, _ = quantd("report", run, "-c", config, "--json")
    error = json.loads(out)["error"]
    assert (code, error["code"]) == (1, "no_report")
    assert f"run {run} " in error["message"]
    assert "20261102T000000000-bbbb" in error["hint"]


def test_no_report_at_all_is_an_error_with_a_hint(quantd, tmp_path):
    path = written(tmp_path)
    code, out, _ = quantd("report", "-c", path, "--json")
    error = json.loads(out)["error"]
    assert (code, error["code"]) == (1, "no_report")
    assert "quantd optimize" in error["hint"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_damaged_report_is_an_error(quantd, config, body):
    file = config.parent / "state" / "runs" / "20261102T000000000-bbbb" / "report.json"
    file.write_bytes(body)
    code, out, _ = quantd("report", "-c", config, "--json")
    error = json.loads(out)["error"]
    assert (code, error["code"]) == (1, "bad_report")
    assert str(file) in error["message"]
    assert error["hint"]


def test_status_before_anything_ran_is_an_error_with_a_hint(quantd, tmp_path):
    code, out, _ = quantd("status", "-c", written(tmp_path), "--json")
    assert code == 1
    assert "optimize" in json.loads(out)["error"]["hint"]
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("release", ["nine", "../../nine", "..", "."])
def test_a_release_that_is_not_there_can_not_be_activated(quantd, config, release):
    code, out, _ = quantd("activate", release, "-c", config, "--json")
    error = json.loads(out)["error"]
    assert (code, error["code"]) == (1, "no_release")
    assert "releases here: none" in error["hint"]


@pytest.mark.parametrize(
    ("done", "verb", "code", "words"),
    [
        (Activation(state="active", release="r2", previous="r1"), "activate", 0, "release r2"),
        (
            Activation(state="rolled_back", release="r1", previous="r2", detail="sick"),
            "activate", 4, "rolled back: release r1 (sick)",
        ),
        (Activation(state="rolled_back", release="r1", previous="r2"), "rollback", 4, "release r1"),
        (Activation(state="active", release="r1", previous="r2"), "rollback", 0, "release r1"),
    ],
)  # fmt: skip
def test_a_switch_that_was_undone_is_exit_code_4(
    quantd, config, monkeypatch, done, verb, code, words
):
    monkeypatch.setattr(daily.released, "activate_release", lambda *_, **__: done)
    monkeypatch.setattr(daily.released, "roll_back", lambda *_, **__: done)
    release = ["r2"] if verb == "activate" else []
    found, out, err = quantd(verb, *release, "-c", config)
    assert (found, out) == (code, "")
    assert words in err
    found, out, _ = quantd(verb, *release, "-c", config, "--json")
    assert found == code
    assert json.loads(out)["state"] == done.state


def test_activating_when_nothing_is_feasible_is_exit_code_3(quantd, config, monkeypatch, tmp_path):
    finished = daily.runs.Finished(report=report_of([]), directory=tmp_path, release=None)
    monkeypatch.setattr(daily.runs, "optimize", lambda *_, **__: finished)
    code, out, err = quantd("activate", "-c", config, "--model", "m.onnx")
    assert (code, out) == (3, "")
    assert "not attempted" in err
    assert "None" not in err


@pytest.mark.parametrize("verb", ["optimize", "activate"])
def test_a_run_that_was_rolled_back_is_exit_code_4(quantd, config, monkeypatch, tmp_path, verb):
    report = report_of([candidate("fp32", measurement(10.0), evaluation(None))])
    back = Activation(state="rolled_back", release="r1", previous="r2", detail="sick")
    finished = daily.runs.Finished(
        report=replace(report, activation=back), directory=tmp_path, release=None
    )
    monkeypatch.setattr(daily.runs, "optimize", lambda *_, **__: finished)
    assert quantd(verb, "-c", config, "--model", "m.onnx")[0] == 4


@pytest.mark.parametrize(("options", "strategy"), [((), "full"), (("--fast",), "fast")], ids=str)
def test_a_fast_search_is_an_option(quantd, config, monkeypatch, tmp_path, options, strategy):
    asked = []

    def optimize(config, **_):
        asked.append(config.search.strategy)
        return daily.runs.Finished(report=report_of([]), directory=tmp_path, release=None)

    monkeypatch.setattr(daily.runs, "optimize", optimize)
    quantd("optimize", "-c", config, "--model", "m.onnx", *options)
    assert asked == [strategy]


def test_a_pinned_release_is_shown_until_it_is_no_longer_pinned(quantd, config):
    (config.parent / "state" / "releases" / "r1").mkdir(parents=True)
    for more, marks in ((), {"r1": "pinned"}), (("--remove",), {}):
        assert quantd("pin", "r1", *more, "-c", config)[0] == 0
        _, out, _ = quantd("status", "-c", config, "--json")
        assert json.loads(out)["marks"] == marks
    assert quantd("pin", "r9", "-c", config)[0] == 1


@pytest.mark.parametrize("verb", ["capture", "activate"])
def test_a_verb_that_is_refused_leaves_the_run_in_steps_as_it_was(quantd, tmp_path, verb):
    (tmp_path / "m.onnx").write_bytes(b"")
    camera, model = {"uri": "synthetic://"}, {"path": str(tmp_path / "m.onnx")}
    config = written(tmp_path, camera=camera, model=model)
    found, never = configuration.load(config), threading.Event()
    with exclusive(found, "quantd optimize", cancelled=never, stopping=never):
        code, _, shown = quantd(verb, "-c", config, "--no-wait")
        assert (code, "is in use by `quantd optimize`" in shown) == (1, True)
        assert not (tmp_path / "state" / "manual-run").exists()


def test_an_interrupt_is_exit_code_130(quantd, config, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(daily.runs, "optimize", interrupted)
    code, out, err = quantd("optimize", "-c", config, "--model", "m.onnx", "--json")
    assert code == 130
    assert json.loads(out)["error"]["code"] == "interrupted"
    assert "interrupted" in err


def test_errors_on_stderr_are_printable(quantd, tmp_path):
    path = tmp_path / "quantd.toml"
    path.write_text('[camera]\n"\\u001b[2J" = 1\n')
    _, _, err = quantd("status", "-c", path)
    assert "unknown key camera.\\x1b[2J" in err


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error(config):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "agent", "report", "-c", str(config), "--json"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert "Traceback" not in done.stderr
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["status", "check-config", "report"])
def test_looking_loads_nothing_heavy(config, verb):
    code = (
        "import sys; from agent.cli import main; main(sys.argv[1:]);"
        "print(sorted({'numpy', 'onnx', 'onnxruntime', 'cv2', 'asyncio', 'paho'} & set(sys.modules)),"
        "file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, verb, "-c", str(config), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "[]\n"
    json.loads(done.stdout)
