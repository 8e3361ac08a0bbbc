"""`quantd init`, and `quantd optimize MODEL` without a configuration file."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import helper

from agent import config as configuration
from agent.adapters.graphs.looking import look_into
from agent.cli import main
from agent.core.errors import ConfigError
from agent.core.frames.pixels import PIXELS
from agent.verbs import daily, locating, setup
from agent.verbs.stated import parsed
from tests.support.detector_heads import detector


@pytest.fixture
def quantd(capsys, tmp_path, monkeypatch):
    """Return a function that runs a command line in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = leaving.code
        out, err = capsys.readouterr()
        return code, out, " ".join(err.split())

    return run


@pytest.fixture
def here(monkeypatch):
    """Look into models in this process, which takes a tenth of the time of a job."""
    monkeypatch.setattr(setup, "look_into", lambda model, _: look_into(Path(model)))


@pytest.fixture
def plain(tmp_path) -> Path:
    """Return a detector without metadata: its input may be anything."""
    return Path(detector("yolo", tmp_path))


@pytest.fixture
def yolo(tmp_path) -> Path:
    """Return a detector as Ultralytics exports it."""
    path = tmp_path / "yolo.onnx"
    model = onnx.load(detector("yolo", tmp_path))
    props = {"task": "detect", "stride": "32", "imgsz": "[96, 96]",
             "names": "{0: 'person', 1: 'bus # \"x\"', 2: 'dog'}"}  # fmt: skip
    helper.set_model_props(model, props)
    onnx.save(model, path)
    return path


def test_a_file_that_states_all_needs_no_option(quantd, yolo, tmp_path):
    code, out, err = quantd("init", yolo, "--camera", "synthetic://")
    assert (code, out) == (0, "")
    assert "Ultralytics" in err
    assert "640x480 px" in err
    config = configuration.load(tmp_path / "quantd.toml")
    assert config.camera.uri == "synthetic://"
    assert config.model.path == str(yolo)
    assert config.model.input.scale == 1 / 255
    assert config.model.input.resize == "letterbox"
    assert config.model.task.decode.kind == "yolo"
    assert config.model.task.names == ("person", 'bus # "x"', "dog")
    text = (tmp_path / "quantd.toml").read_text()
    assert 'path = "yolo.onnx"' in text  # the folder can be moved
    assert 'pixels = "0..1"    # the convention of Ultralytics' in text
    code, _, err = quantd("init", yolo)
    assert code == 2
    assert "exists already" in err


@pytest.mark.usefixtures("here")
def test_what_is_missing_is_one_error_that_names_the_options(quantd, plain, tmp_path):
    code, out, err = quantd("optimize", plain, "--json")
    assert code == 2
    error = json.loads(out)["error"]
    assert error["code"] == "missing"
    for option in (
        "--pixels 0..255 | 0..1 | -1..1 | imagenet | caffe-bgr",
        "--scale",
        "--camera URI",
    ):
        assert option in error["hint"]
    assert "not in the file, and never guessed" in err
    assert quantd("init", plain)[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == [plain.name]


@pytest.mark.usefixtures("here")
def test_the_options_state_what_the_file_does_not(quantd, plain, tmp_path):
    code, out, _ = quantd("init", plain, "--pixels", "-1..1", "--color", "bgr", "--json",
                          "--decode", '{kind = "yolo", threshold = 0.5}')  # fmt: skip
    assert code == 0
    assert json.loads(out)["file"] == "quantd.toml"
    config, origin = configuration.load_with_origin(tmp_path / "quantd.toml")
    assert config.model.input.color == "BGR"
    assert config.model.input.mean == (1.0, 1.0, 1.0)
    assert config.model.task.decode.threshold == 0.5
    assert "model.input.pixels" in origin


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pixels", "0..2"], "caffe-bgr"),
        (["--pixels", ""], "caffe-bgr"),
        (["--scale", "much"], "--scale"),
        (["--mean", "1,2,3", "--std", "1,1,1"], "--scale"),
        (["--pixels", "0..1", "--scale", "1/255"], "sets scale"),
        (["--pixels", "0..1", "--size", "96by96"], "--size"),
        (["--pixels", "0..1", "--decode", "kind = "], "TOML"),
        (["--pixels", "0..1", "--decode", 'kind = "yolo", knd = 1'], "knd"),
        (["--pixels", "0..1", "--names", "absent.txt"], "absent.txt"),
        (["--pixels", "0..1", "--task", "guessing"], "guessing"),
        (["--camera", "film://x"], "film"),
    ],
)
def test_options_that_can_not_be_are_refused(quantd, plain, tmp_path, arguments, words):
    code, _, err = quantd("init", plain, *arguments)
    assert code == 2
    assert words in err
    assert not (tmp_path / "quantd.toml").exists()


@pytest.mark.usefixtures("here")
def test_on_a_terminal_what_is_missing_is_asked(quantd, plain, tmp_path, monkeypatch):
    answers = iter(["0..2\n", "\n", "-1..1\n"])

    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return next(answers, "")

    monkeypatch.setattr(setup.sys, "stdin", Terminal())
    monkeypatch.setattr(setup.sys.stderr, "isatty", lambda: True, raising=False)
    code, _, err = quantd("init", plain)
    assert code == 0
    assert "'0..2' can't be read" in err
    assert "'' can't be read" in err
    assert configuration.load(tmp_path / "quantd.toml").model.input.pixels == "-1..1"
    (tmp_path / "quantd.toml").unlink()
    assert quantd("init", plain)[0] == 2  # the end of the input is no answer


@pytest.mark.slow
def test_a_page_shows_a_frame_under_each_choice_of_pixels(quantd, plain, tmp_path):
    arguments = ("init", plain, "--camera", "synthetic://", "--look")
    code, out, err = quantd(*arguments)
    assert (code, out) == (0, "")
    assert "with the --pixels that is right" in err
    assert not (tmp_path / "quantd.toml").exists()  # nothing is guessed
    page = (tmp_path / "quantd-look.html").read_text()
    assert [f"--pixels {one}" in page for one in PIXELS] == [True] * 5
    code, out, _ = quantd(*arguments, "--scale", "1/128", "--json")
    assert code == 0
    assert json.loads(out)["look"] == str(tmp_path / "quantd-look.html")
    assert "as stated" in (tmp_path / "quantd-look.html").read_text()
    assert (tmp_path / "quantd.toml").exists()
    (tmp_path / "quantd.toml").unlink()
    assert quantd("init", plain, "--look")[0] == 2  # no camera


@pytest.mark.parametrize(
    "arguments",
    [["optimize"], ["optimize", "m.onnx", "--model", "n.onnx"], ["init"], ["init", "absent.onnx"]],
)
def test_a_model_has_to_be_given_once(quantd, arguments):
    assert quantd(*arguments)[0] in {1, 2}


def test_numbers_may_be_fractions_and_one_stands_for_all_channels():
    assert parsed("scale", "1/255") == {"model.input.scale": 1 / 255}
    assert parsed("std", "0.5") == {"model.input.std": (0.5, 0.5, 0.5)}
    assert parsed("mean", "-1,0,1") == {"model.input.mean": (-1.0, 0.0, 1.0)}
    assert parsed("size", "640x480") == {"model.input.width": 640, "model.input.height": 480}


@pytest.mark.usefixtures("here")
def test_a_configuration_of_ones_own_is_not_written_over(quantd, yolo, tmp_path):
    folder = tmp_path / "quantd-yolo"
    folder.mkdir()
    (folder / "quantd.toml").write_text("[camera]\n")
    code, _, err = quantd("optimize", yolo, "--camera", "synthetic://")
    assert code == 2
    assert "of your own" in err
    assert (folder / "quantd.toml").read_text() == "[camera]\n"


def test_the_file_here_is_that_of_its_model_only(yolo, plain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not setup.is_configured_here("yolo.onnx")
    (tmp_path / "quantd.toml").write_text('[model]\npath = "yolo.onnx"\n')
    assert setup.is_configured_here(str(yolo))
    assert not setup.is_configured_here(str(plain))


@pytest.mark.usefixtures("here")
def test_optimize_without_a_file_runs_what_the_model_states(quantd, yolo, tmp_path, monkeypatch):
    begun = {}

    def run(config, **arguments):
        begun.update(arguments, config=config)
        raise ConfigError("begun")

    monkeypatch.setattr(daily.runs, "optimize", run)
    arguments = ("optimize", yolo, "--camera", "synthetic://", "--runtime", "onnxruntime")
    for _ in range(2):
        code, out, err = quantd(*arguments)
        assert (code, out) == (2, "")
        assert err.endswith("begun")
    assert "Ultralytics" in begun["origin"]["model.input.scale"]
    file = tmp_path / "quantd-yolo" / "quantd.toml"
    assert configuration.load(file) == begun["config"]
    assert begun["config"].runtime.kind == "onnxruntime"
    assert begun["config"].storage.dir == str(file.parent)
    quantd(*arguments, "--state", tmp_path / "here")
    assert begun["config"].storage.dir == str(tmp_path / "here")
    begun.clear()
    monkeypatch.setattr(locating, "SYSTEM", tmp_path / "none")
    quantd("optimize", "--model", *arguments[1:])
    assert begun["config"].storage.dir == str(file.parent)
