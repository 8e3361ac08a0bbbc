"""The options that state what a model file does not, as keys of the configuration."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent import config as configuration
from agent.core.errors import ConfigError
from agent.core.frames.pixels import PIXELS
from agent.core.setup.settings import Setting, Value
from agent.verbs.options import Option, option

_TASKS = ("generic", "classification", "segmentation", "detection")


def _number(text: str) -> float:
    """Return a number, or the value of a fraction such as 1/255."""
    above, _, below = text.partition("/")
    return float(above) / float(below or 1)


def _preset(text: str) -> str:
    """Return the name of a preset; an empty one would be raw pixels without being stated."""
    if text not in PIXELS:
        raise ValueError(text)
    return text


def _numbers(text: str) -> tuple[float, ...]:
    found = tuple(_number(one) for one in text.split(","))
    return found * 3 if len(found) == 1 else found


def _size(text: str) -> Mapping[str, Value]:
    width, _, height = text.lower().partition("x")
    return {"model.input.width": int(width), "model.input.height": int(height or width)}


def _decoding(text: str) -> Mapping[str, Value]:
    table = text.strip().removeprefix("{").removesuffix("}")
    found = configuration.parse_toml(f"decode = {{{table}}}", "--decode")["decode"]
    return {f"model.task.decode.{key}": value for key, value in found.items()}


def _one(key: str, convert: Callable[[str], Value] = str) -> Callable[[str], Mapping[str, Value]]:
    return lambda text: {key: convert(text)}


_STATED: dict[str, tuple[Callable[[str], Mapping[str, Value]], dict[str, Any]]] = {
    "pixels": (
        _one("model.input.pixels", _preset),
        {"metavar": "NAME", "help": f"what the model expects of pixels: {', '.join(PIXELS)}"},
    ),
    "scale": (
        _one("model.input.scale", _number),
        {"metavar": "S", "help": "factor on pixels 0..255, e.g. 1/255; with --mean and --std"},
    ),
    "mean": (
        _one("model.input.mean", _numbers),
        {"metavar": "M,M,M", "help": "subtracted after scaling, per channel"},
    ),
    "std": (
        _one("model.input.std", _numbers),
        {"metavar": "S,S,S", "help": "divisor after that, per channel"},
    ),
    "size": (_size, {"metavar": "WxH", "help": "size of an input that the file leaves open"}),
    "layout": (_one("model.input.layout", str.upper), {"help": "NCHW or NHWC"}),
    "color": (_one("model.input.color", str.upper), {"help": "order of the channels: RGB, BGR or GRAY"}),
    "resize": (_one("model.input.resize"), {"help": "stretch or letterbox"}),
    "task": (
        _one("model.task.kind"),
        {"metavar": "KIND", "help": f"what the outputs are: {', '.join(_TASKS)}"},
    ),
    "decode": (
        _decoding,
        {"metavar": "KEYS", "help": "how outputs become boxes, as under [model.task.decode]: "
         """'kind = "yolo", objectness = true'"""},
    ),
    "names": (
        _one("model.task.names", lambda text: str(Path(text).absolute())),
        {"metavar": "FILE", "help": "a text file with the names of the classes, one a line"},
    ),
}  # fmt: skip
STATED: tuple[Option, ...] = tuple(
    option(f"--{name}", **details) for name, (_, details) in _STATED.items()
)


def stated(options: argparse.Namespace) -> dict[str, Setting]:
    """Return the values that the options state, by their keys.

    Raises:
        ConfigError: "usage", naming the option, what was seen and what is allowed.
    """
    texts = {name: text for name in _STATED if (text := getattr(options, name, None)) is not None}
    if "scale" not in texts and {"mean", "std"} & texts.keys():
        raise ConfigError(
            "--mean and --std need --scale: they count after it",
            code="usage",
            hint="--scale 1 if they are in levels of 0..255, --scale 1/255 if they are fractions",
        )
    found: dict[str, Setting] = {}
    for name, text in texts.items():
        for key, value in parsed(name, text).items():
            found[key] = Setting(key=key, value=value, origin=f"--{name}")
    if "decode" in texts and "task" not in texts:
        key = "model.task.kind"
        found[key] = Setting(key=key, value="detection", origin="--decode")
    return found


def parsed(name: str, text: str) -> Mapping[str, Value]:
    """Return the keys that an option sets.

    Raises:
        ConfigError: "usage" if the text is not what the option takes.
    """
    parse, details = _STATED[name]
    try:
        return parse(text)
    except (ValueError, ZeroDivisionError) as e:
        raise ConfigError(
            f"--{name} {text!r} can't be read", code="usage", hint=details["help"]
        ) from e
