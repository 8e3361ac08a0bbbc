"""The input as an application must feed it, and where each of its values came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from agent.core.frames.input_spec import InputSpec

_FILE, _DEFAULT, ALWAYS = "the model file", "default", "quantd always does so"
_SIZE = {"width", "height"}
_CONFIGURED = {"layout", "color", "dtype", "scale", "mean", "std", "resize"}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputReport(InputSpec):
    """The input, with the origin of each value in words, by the names of the values."""

    origin: Mapping[str, str]


def input_report(spec: InputSpec, configured: InputSpec, origin: Mapping[str, str]) -> InputReport:
    """Return the input of a run.

    Args:
        spec: With the size of the model's input.
        configured: As configured: a size of 0 is that of the model file.
        origin: Sources of configured values by their dotted keys: a file, the command line or a
            preset of pixels; others are defaults.
    """
    values = {field.name: getattr(spec, field.name) for field in fields(InputSpec)}
    found = {}
    for name in values:
        source = origin.get(f"model.input.{name}", _DEFAULT)
        if name in _SIZE:
            found[name] = source if getattr(configured, name) else _FILE
        else:
            found[name] = source if name in _CONFIGURED else ALWAYS
    return InputReport(**values, origin=found)
