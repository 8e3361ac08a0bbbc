"""configs/quantd.toml is right about every key, and the model cards are usable."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import msgspec
import pytest

from agent import config
from agent.config import checks
from agent.core.choice.limits import LIMITS
from agent.core.errors import ConfigError
from agent.core.fidelity.decoders import DECODERS
from agent.core.frames.camera_uri import CAMERAS
from agent.core.quantization.calibrator_names import CALIBRATORS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = CONFIGS / "quantd.toml"
KEY = re.compile(r"^#(?=[a-z_0-9]+ = )", re.MULTILINE)
RANGE = re.compile(r"(-?[\d.e]+) to (-?[\d.e]+)")


def plain(loaded):
    """Return a Config as TOML has it: lists, not tuples."""
    return json.loads(json.dumps(config.dump(loaded)))


def stated_defaults():
    return config.flatten(tomllib.loads(KEY.sub("", SHIPPED.read_text())))


def comments():
    """Return the comment above each dotted key."""
    found, table, comment = {}, "", ""
    for line in SHIPPED.read_text().splitlines():
        if line.startswith("["):
            table, comment = line[1 : line.index("]")], ""
            continue
        key = re.match(r"#([a-z_0-9]+) = ", line)
        if key:
            found[f"{table}.{key[1]}"] = comment
            comment = ""
        else:
            comment += line
    return found


def stated_ranges():
    """Return {dotted key: (low, high)} from the comments."""
    found = {key: RANGE.search(comment) for key, comment in comments().items()}
    return {key: (float(span[1]), float(span[2])) for key, span in found.items() if span}


def with_value(key, value):
    default = stated_defaults()[key]
    if isinstance(default, list):
        return {key: [int(value)]}
    return {key: value if isinstance(default, float) else int(value)}


def test_the_shipped_file_is_the_defaults():
    shipped, origin = config.load_with_origin(SHIPPED)
    assert origin == {}
    empty = msgspec.structs.replace(
        shipped,
        device=msgspec.structs.replace(shipped.device, id=""),
        model=msgspec.structs.replace(shipped.model, name=""),
    )
    assert empty == config.Config()


def test_every_key_is_listed_with_its_default():
    floors = {f"limits.{key}": limit.floor for key, limit in LIMITS.items() if limit.floor}
    assert stated_defaults() == config.flatten(plain(config.Config())) | floors


@pytest.mark.parametrize(
    ("key", "allowed"), (checks._CHOICES | {"model.task.kind": checks._TASKS}).items()
)
def test_the_choices_in_a_comment_are_those_there_are(key, allowed):
    stated = set(re.findall(r'"([^"]*)"', comments()[key]))
    own = {"module:function"} if key == "model.task.kind" else set()
    if key.startswith("model.task.decode."):  # a key of one kind only names it
        own = set(checks._CHOICES["model.task.decode.kind"])
    assert set(allowed) - {""} <= stated <= {*allowed, "", *own}


def examples_of_decoding():
    """Return {export: the keys of its [model.task.decode]} from the comments."""
    return dict(re.findall(r"^#   (\S.*?): +\{(kind = .*)\}$", SHIPPED.read_text(), re.MULTILINE))


@pytest.mark.parametrize(("name", "table"), examples_of_decoding().items())
def test_an_example_of_decoding_is_valid_and_in_the_readme(name, table):
    readme = (CONFIGS.parent / "README.md").read_text()
    assert re.split(r"[ ,]", name)[0] in readme
    assert [one for one in table.split(", ") if f"`{one}`" not in readme] == []
    decode = tomllib.loads(f"decode = {{{table}}}")["decode"]
    keys = {f"model.task.decode.{key}": value for key, value in decode.items()}
    loaded = config.load(SHIPPED, overrides={"model.task.kind": "detection"} | keys)
    assert config.dump(loaded)["model"]["task"]["decode"].items() >= decode.items()


def test_each_kind_of_decoding_has_an_example():
    kinds = {re.search('kind = "(.+?)"', one)[1] for one in examples_of_decoding().values()}
    assert kinds == set(DECODERS)


def test_every_number_has_a_range():
    numbers = {
        key
        for key, value in config.flatten(plain(config.Config())).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    assert numbers - set(stated_ranges()) == {"model.input.scale"}


@pytest.mark.parametrize(("key", "bounds"), stated_ranges().items())
def test_a_stated_range_is_the_range(key, bounds):
    low, high = bounds
    task = {"model.task.kind": "classification"}  # an agreement limit needs a metric
    for value in bounds:
        config.load(SHIPPED, overrides=with_value(key, value) | task)
    below, above = (low - 1, high + 1) if float(low).is_integer() else (low / 2, high + 1)
    for value in (below, above):
        with pytest.raises(ConfigError, match=re.escape(key)):
            config.load(SHIPPED, overrides=with_value(key, value) | task)


def test_every_camera_is_shown_here_and_in_the_readme():
    examples = [kind.example for kind in CAMERAS.values()]
    uri = re.compile(r"[a-z0-9]+://[^\s`|]*")
    shipped = SHIPPED.read_text().partition("[camera]")[2].partition("#uri = ")[0]
    readme = (CONFIGS.parent / "README.md").read_text().partition("| camera URI |")[2]
    assert uri.findall(shipped) == uri.findall(readme.partition("\n\n")[0]) == examples


def test_every_camera_whose_frames_have_names_is_shown_beside_labels():
    comment = SHIPPED.read_text().partition("[model.task]")[2].partition("#labels = ")[0]
    named = {scheme for scheme, kind in CAMERAS.items() if kind.frame_names}
    assert set(re.findall(r"([a-z0-9]+)://", comment)) == named


def test_every_calibrator_is_explained():
    comment = SHIPPED.read_text().partition("[search]")[2].partition("#calibrators = ")[0]
    assert re.findall(r'^#   "(.+)": (.+)$', comment, re.MULTILINE) == list(CALIBRATORS.items())


@pytest.mark.parametrize("name", ["README.md", "configs/quantd.toml", "agent/decisions.md"])
def test_a_limit_that_is_named_exists(name):
    named = re.findall(r"limits\.(\w+)|\"limits\": {\"(\w+)\"", (CONFIGS.parent / name).read_text())
    assert {one or other for one, other in named} <= LIMITS.keys()


@pytest.mark.parametrize("card", sorted((CONFIGS / "models").glob("*.toml")), ids=lambda p: p.stem)
def test_a_card_is_merged_under_the_model(card, tmp_path):
    file = tmp_path / "quantd.toml"
    file.write_text(f'[model]\npath = "m.onnx"\ncard = "{card}"\ninput = {{ width = 32 }}\n')
    loaded, origin = config.load_with_origin(file)
    stated = tomllib.loads(card.read_text())
    found = plain(loaded)["model"]
    default = plain(config.Config())["model"]["task"]
    decode = default["decode"] | stated["task"].get("decode", {})
    assert found["task"] == default | stated["task"] | {"decode": decode}
    assert loaded.model.input.width == 32
    assert origin["model.input.width"] == str(file)
    assert origin["model.task.kind"] == str(card)
    for key in stated["input"].keys() - {"width"}:
        assert found["input"][key] == stated["input"][key]
