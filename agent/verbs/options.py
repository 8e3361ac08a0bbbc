"""The description of a verb, the options that verbs share, and loading the configuration."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agent import config as configuration
from agent.config import Config
from agent.core.report.wording import escape_unprintable
from agent.verbs.locating import config_file, noted_state, state_folder

Option = tuple[tuple[str, ...], dict[str, Any]]


def option(*flags: str, **details: Any) -> Option:
    """Return an option, from the arguments of `ArgumentParser.add_argument`."""
    return flags, details


CONFIGURED = (
    option(
        "-c",
        "--config",
        metavar="CFG",
        help="the configuration file (default: quantd.toml here, else /etc/quantd/quantd.toml)",
    ),
    option(
        "--state",
        metavar="DIR",
        help="the folder of state and releases, instead of storage.dir; without -c, its own "
        "quantd.toml is read, if it has one",
    ),
)
MODEL = option("--model", metavar="M.onnx", help="instead of model.path")
CAMERA = option("--camera", metavar="URI", help="instead of camera.uri")
OUTPUT = option(
    "--output",
    metavar="DIR",
    help="also write report.json, report.html and the release to DIR; the state as well if "
    "neither storage.dir nor --state names its folder",
)
RUNTIME = option(
    "--runtime", choices=("auto", "tensorrt", "onnxruntime"), help="instead of runtime.kind"
)
CAPABILITY = option(
    "--compute-capability",
    metavar="X.Y",
    help="instead of runtime.compute_capability, with --runtime tensorrt",
)
FAST = option(
    "--fast",
    dest="strategy",
    action="store_const",
    const="fast",
    help='as search.strategy = "fast": do not build or measure to the end what can\'t win',
)
REUSE = option(
    "--reuse-calibration",
    action="store_true",
    help="reuse the frames that the active release was made from; no camera is opened",
)
NO_WAIT = option(
    "--no-wait",
    action="store_true",
    help="fail if another quantd measures or switches releases, instead of waiting for it",
)
JSON = option("--json", action="store_true", help="print one JSON document on stdout")
_OVERRIDES = {
    "model": "model.path",
    "camera": "camera.uri",
    "runtime": "runtime.kind",
    "strategy": "search.strategy",
    "compute_capability": "runtime.compute_capability",
}


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One command of the command line.

    Attributes:
        run: Called with the parsed options; returns the exit code.
    """

    name: str
    summary: str
    run: Callable[[argparse.Namespace], int]
    options: tuple[Option, ...] = ()
    example: str = ""


def load(options: argparse.Namespace, stated: Mapping[str, Any] | None = None) -> Config:
    """Load the configuration; options of the command line override the file.

    Args:
        options: Of the verb.
        stated: Further values by their dotted keys, with absolute paths.
    """
    return load_with_origin(options, stated)[0]


def load_with_origin(
    options: argparse.Namespace, stated: Mapping[str, Any] | None = None
) -> tuple[Config, dict[str, str]]:
    """As `load`; also return the source of each dotted key that is not a default.

    The file that was found is put into `options.config`.
    """
    given = vars(options)
    overrides = {**(stated or {}), **overridden(options)}
    if "model.path" in overrides:
        overrides["model.path"] = str(Path(options.model).absolute())
    file = config_file(options)
    if not options.config:
        sys.stderr.write(f"configuration: {escape_unprintable(str(file))}\n")  # without rich
        options.config = str(file)
    if state := state_folder(options):
        overrides["storage.dir"] = str(state)
    config, origin = configuration.load_with_origin(file, overrides=overrides)
    if "storage.dir" in origin:
        return config, origin
    if given.get("output"):
        overrides["storage.dir"] = str(Path(options.output).absolute())
        return configuration.load_with_origin(file, overrides=overrides)
    if noted := noted_state(options, file):
        overrides["storage.dir"] = str(noted.folder)
        config, origin = configuration.load_with_origin(file, overrides=overrides)
        origin["storage.dir"] = str(noted.note)
    return config, origin


def overridden(options: argparse.Namespace) -> dict[str, Any]:
    """Return the values of options that stand for one key of the configuration, by their keys."""
    given = vars(options)
    return {key: given[name] for name, key in _OVERRIDES.items() if given.get(name)}


def print_json(value: object) -> None:
    """Write one JSON document to stdout."""
    json.dump(msgspec.to_builtins(value), sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")
