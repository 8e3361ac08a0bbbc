"""Configuration: TOML files read into frozen structs. `configs/quantd.toml` explains every key.

Precedence: built-in defaults < board file < model card < quantd.toml < command line.
An unknown key and a value out of range are errors that name the key. No environment variables are
read; secrets are in files that a key names.
"""

from __future__ import annotations

from agent.config.checks import flatten, without_effect
from agent.config.doubts import doubts
from agent.config.loading import (
    broker_settings,
    dump,
    from_dump,
    from_settings,
    load,
    load_with_origin,
    require_source,
)
from agent.config.tables import (
    ActivationTable,
    Calibration,
    CameraTable,
    Config,
    Measure,
    Model,
    Mqtt,
    Tls,
)
from agent.config.toml import parse_toml
