"""Configuration: TOML into frozen structs, once, at start. `configs/quantd.toml` explains every key.

Precedence: built-in defaults < board file < model card < quantd.toml < command line.
An unknown key is an error that names its path; so is a value out of range. No environment
variables are read; secrets are named by file.
"""

from __future__ import annotations

from agent.config.checks import flatten, without_effect
from agent.config.loading import dump, from_dump, load, load_with_origin, require_source
from agent.config.tables import (
    ActivationTable,
    Calibration,
    CameraTable,
    Commands,
    Config,
    Device,
    Drift,
    Limits,
    Measure,
    Model,
    ModelInput,
    ModelTask,
    Mqtt,
    Objective,
    Runtime,
    Schedule,
    Search,
    Storage,
    Tls,
)

__all__ = [
    "ActivationTable",
    "Calibration",
    "CameraTable",
    "Commands",
    "Config",
    "Device",
    "Drift",
    "Limits",
    "Measure",
    "Model",
    "ModelInput",
    "ModelTask",
    "Mqtt",
    "Objective",
    "Runtime",
    "Schedule",
    "Search",
    "Storage",
    "Tls",
    "dump",
    "flatten",
    "from_dump",
    "load",
    "load_with_origin",
    "require_source",
    "without_effect",
]
