"""The description of a verb, the options that verbs share, and loading the configuration."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agent import config as configuration
from agent.config import Config

Option = tuple[tuple[str, ...], dict[str, Any]]

CONFIG: Option = (
    ("-c", "--config"),
    {"metavar": "CFG", "required": True, "help": "the configuration file, e.g. quantd.toml"},
)
MODEL: Option = (("--model",), {"metavar": "M.onnx", "help": "instead of model.path"})
CAMERA: Option = (("--camera",), {"metavar": "URI", "help": "instead of camera.uri"})
OUTPUT: Option = (
    ("--output",),
    {
        "metavar": "DIR",
        "help": "also write report.json, report.html and the release to DIR; "
        "the state as well if storage.dir is not configured",
    },
)
RUNTIME: Option = (
    ("--runtime",),
    {"choices": ("auto", "tensorrt", "onnxruntime"), "help": "instead of runtime.kind"},
)
CAPABILITY: Option = (
    ("--compute-capability",),
    {"metavar": "X.Y", "help": "instead of runtime.compute_capability, with --runtime tensorrt"},
)
REUSE: Option = (
    ("--reuse-calibration",),
    {
        "action": "store_true",
        "help": "reuse the frames that the active release was made from; no camera is opened",
    },
)
JSON: Option = (
    ("--json",),
    {"action": "store_true", "help": "print one JSON document on stdout"},
)


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


def load(options: argparse.Namespace) -> Config:
    """Load the configuration; options of the command line override the file."""
    return load_with_origin(options)[0]


def load_with_origin(options: argparse.Namespace) -> tuple[Config, dict[str, str]]:
    """As `load`; also return the source of each dotted key that is not a default."""
    overrides: dict[str, Any] = {}
    if getattr(options, "model", None):
        overrides["model.path"] = str(Path(options.model).absolute())
    if getattr(options, "camera", None):
        overrides["camera.uri"] = options.camera
    if getattr(options, "runtime", None):
        overrides["runtime.kind"] = options.runtime
    if getattr(options, "compute_capability", None):
        overrides["runtime.compute_capability"] = options.compute_capability
    config, origin = configuration.load_with_origin(options.config, overrides=overrides)
    output = getattr(options, "output", None)
    if output and "storage.dir" not in origin:
        overrides["storage.dir"] = str(Path(output).absolute())
        return configuration.load_with_origin(options.config, overrides=overrides)
    return config, origin


def print_json(value: object) -> None:
    """Write one JSON document to stdout."""
    json.dump(msgspec.to_builtins(value), sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")
