"""Where a verb finds its configuration, and where later verbs find what an earlier one made."""

from __future__ import annotations

import argparse
import json
import os
import threading
from pathlib import Path

import pytest

from agent.cli import main
from agent.core.errors import ConfigError
from agent.run.report import encode
from agent.verbs import locating
from agent.verbs.locating import config_file, note_state
from agent.verbs.options import load_with_origin
from tests.support.candidates import candidate, evaluation, measurement
from tests.support.reports import report_of


@pytest.fixture(autouse=True)
def system(tmp_path, monkeypatch) -> Path:
    """Return the system's configuration, which is not there; the current folder is `here`."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    file = tmp_path / "etc" / "quantd.toml"
    file.parent.mkdir()
    monkeypatch.setattr(locating, "SYSTEM", file)
    return file


def options(name: str = "status", **given: object) -> argparse.Namespace:
    return argparse.Namespace(**{"name": name, "config": None, "state": None, **given})


def configuration(file: Path, storage: str = "") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'[storage]\ndir = "{storage}"\n' if storage else '[device]\nid = "cam"\n')
    return file


def with_report(state: Path, run: str = "20261101T000000000-aaaa") -> Path:
    """Put a state with one report into a folder."""
    folder = state / "runs" / run
    folder.mkdir(parents=True)
    found = [candidate("fp32", measurement(10.0), evaluation(None))]
    (folder / "report.json").write_bytes(encode(report_of(found, text=run)))
    return state


def storage_of(given: argparse.Namespace) -> tuple[str, str]:
    """Return the folder of the state that a verb uses, and where that comes from."""
    config, origin = load_with_origin(given)
    return config.storage.dir, origin.get("storage.dir", "default")


def test_the_file_here_comes_before_that_of_the_system(system):
    with pytest.raises(ConfigError) as caught:
        config_file(options())
    assert str(Path("quantd.toml").absolute()) in caught.value.message
    assert str(system) in caught.value.message
    configuration(system)
    assert config_file(options()) == system
    configuration(Path("quantd.toml"))
    assert config_file(options()) == Path("quantd.toml")
    assert config_file(options(config="other.toml")) == Path("other.toml")


def test_the_file_in_the_state_comes_before_that_here(tmp_path):
    configuration(Path("quantd.toml"))
    assert config_file(options(state="state")) == Path("quantd.toml")
    beside = configuration(tmp_path / "here" / "state" / "quantd.toml")
    assert config_file(options(state="state")).absolute() == beside
    assert config_file(options(state="state", config="other.toml")) == Path("other.toml")


def test_the_only_folder_that_a_run_made_here_is_the_last_resort(system):
    """As `quantd optimize MODEL` and the demo leave it."""
    made = configuration(Path("quantd-yolo/quantd.toml"))
    assert config_file(options()) == made
    with pytest.raises(ConfigError):
        config_file(options("run"))
    configuration(Path("quantd-demo/quantd.toml"))
    with pytest.raises(ConfigError) as caught:
        config_file(options())
    assert "quantd-yolo/quantd.toml" in caught.value.hint
    configuration(system)
    assert config_file(options()) == system


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_file_of_another_user_in_the_state_is_not_read(tmp_path):
    """It names commands, which run as who reads it."""
    configuration(Path("quantd.toml"))
    os.chown(configuration(Path("state/quantd.toml")), 12345, -1)
    assert config_file(options(state="state")) == Path("quantd.toml")


def test_the_state_is_where_the_command_line_has_it(tmp_path):
    file = configuration(tmp_path / "etc" / "own.toml")
    state = str(tmp_path / "here" / "s")
    assert storage_of(options(config=file))[0] == "/var/lib/quantd"
    assert storage_of(options(config=file, state="s")) == (state, "command line")
    assert storage_of(options(config=file, output="s")) == (state, "command line")
    configuration(file, storage="kept")
    assert storage_of(options(config=file, output="s"))[0] == str(tmp_path / "etc" / "kept")
    assert storage_of(options(config=file, output="r", state="s"))[0] == state


@pytest.mark.parametrize("place", ["state", "output"])
def test_a_result_is_found_again_by_its_configuration_and_by_its_folder(tmp_path, place):
    file = configuration(tmp_path / "etc" / "own.toml")
    note_state(options("optimize", config=file, **{place: "result"}))
    result = tmp_path / "here" / "result"
    assert storage_of(options(config=file)) == (str(result), f"{tmp_path}/etc/.own.toml.state")
    with_report(result)
    assert storage_of(options(state="result"))[0] == str(result)
    assert config_file(options(state="result")).resolve() == file


def test_a_result_without_a_state_leads_to_that_of_its_configuration(tmp_path):
    file = configuration(tmp_path / "etc" / "own.toml", storage="kept")
    note_state(options("optimize", config=file, output="result"))
    (tmp_path / "here" / "result" / "report.json").touch()
    assert storage_of(options(state="result"))[0] == str(tmp_path / "etc" / "kept")
    assert not list(file.parent.glob(".*"))


@pytest.mark.parametrize("name", ["run", "doctor", "check-config"])
def test_the_daemon_stays_where_its_configuration_has_it(tmp_path, name):
    file = configuration(tmp_path / "etc" / "own.toml")
    note_state(options("optimize", config=file, state="result"))
    assert storage_of(options(name, config=file)) == ("/var/lib/quantd", "default")


def test_the_state_of_the_system_stays_where_it_is(system):
    configuration(system)
    note_state(options("optimize", config=system, state="result"))
    assert storage_of(options(config=system))[0] == "/var/lib/quantd"
    assert [one.name for one in system.parent.iterdir()] == ["quantd.toml"]


def test_a_file_of_the_user_in_the_folder_stays(tmp_path):
    file, own = configuration(tmp_path / "etc" / "own.toml"), configuration(Path("s/quantd.toml"))
    note_state(options("optimize", config=file, state="s"))
    assert not own.is_symlink()


@pytest.mark.parametrize("body", [b"", b"relative\n", b"/none\n", b"\xff\xfe", b"\x00"])
def test_a_note_that_leads_nowhere_is_none(tmp_path, body):
    file = configuration(tmp_path / "etc" / "own.toml")
    (file.parent / ".own.toml.state").write_bytes(body)
    assert storage_of(options(config=file))[0] == "/var/lib/quantd"


def test_a_folder_that_can_not_be_written_ends_nothing(tmp_path):
    file = configuration(tmp_path / "etc" / "own.toml")
    (tmp_path / "here" / "file").touch()
    note_state(options("optimize", config=file, state="file"))
    assert storage_of(options(config=file))[0] == "/var/lib/quantd"


def test_every_verb_that_looks_finds_the_result(tmp_path, capsys):
    """As after `quantd optimize -c own.toml --output result`, from another folder."""
    file = configuration(tmp_path / "etc" / "own.toml")
    note_state(options("optimize", config=file, output="result"))
    result = with_report(tmp_path / "here" / "result")
    for where in (["-c", str(file)], ["--state", str(result)]):
        for verb in ("status", "report"):
            assert main([verb, *where, "--json"]) == 0
            out, err = capsys.readouterr()
            assert "20261101T000000000-aaaa" in out
            assert err == ("" if "-c" in where else f"configuration: {result}/quantd.toml\n")
        assert main(["activate", "none", *where, "--json"]) == 1
        assert json.loads(capsys.readouterr()[0])["error"]["code"] == "no_release"


def test_work_in_the_foreground_leaves_the_note(tmp_path, monkeypatch):
    from agent.verbs.interrupt import in_turn

    file = configuration(tmp_path / "etc" / "own.toml")
    given = options("optimize", config=str(file), state="s", no_wait=True)
    with in_turn(load_with_origin(given)[0], given) as cancelled:
        assert isinstance(cancelled, threading.Event)
    assert storage_of(options(config=file))[0] == str(tmp_path / "here" / "s")


@pytest.mark.slow
def test_the_doctor_needs_no_configuration(capsys):
    """A fresh machine is what it is asked about first."""
    assert main(["doctor", "--json", "--runtime", "onnxruntime"]) in {0, 1}
    found = {one["what"] for one in json.loads(capsys.readouterr()[0])}
    assert {"runtime", "storage"} <= found
    assert not {"model", "camera"} & found
    main(["doctor", "--json", "--model", "none.onnx"])
    assert "model" in {one["what"] for one in json.loads(capsys.readouterr()[0])}
