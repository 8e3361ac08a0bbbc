"""JSON Schema 2020-12 of every message, of report.json and of model.json, from the code itself.

`python -m agent.wire.schema configs/schema` writes the files; a test holds them to the code.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import fields

from agent.core.report import document
from agent.core.report.metrics import METRICS
from agent.wire import messages
from agent.wire.commands import ARGS, COMMANDS, CommandBody, ExpectBody
from agent.wire.release import Description

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MESSAGES: dict[str, type] = {
    "report": document.Report,
    "model": Description,
    "state": messages.State,
    "meta": messages.Inventory,
    "releases": messages.Releases,
    "telemetry": messages.Telemetry,
    "event": messages.Event,
    "report_message": messages.Report,
    "result": messages.Result,
}


def schemas() -> dict[str, dict[str, Any]]:
    """Return each schema by the name of its file without `.json`."""
    found = {name: _schema(kind) for name, kind in _MESSAGES.items()}
    found["command"] = _command()
    found["telemetry"]["$defs"]["Telemetry"]["properties"]["m"]["properties"] = _metrics()
    return found


def _schema(kind: type) -> dict[str, Any]:
    return {"$schema": _DIALECT, **msgspec.json.schema(kind)}


def _metrics() -> dict[str, Any]:
    """Return the figures of telemetry by name, with their units."""
    return {
        name: {
            "type": ["integer" if metric.counts else "number", "null"],
            "description": f"{metric.title}, {metric.about}" if metric.about else metric.title,
            **({"x-unit": metric.unit} if metric.unit else {}),
            **({"minimum": 0} if metric.counts else {}),
        }
        for name, metric in METRICS.items()
    }


def _command() -> dict[str, Any]:
    """Return the command's schema: `args` and `expect` depend on `type`."""
    kinds = (CommandBody, ExpectBody, *ARGS.values())
    _, definitions = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    body = definitions.pop("CommandBody")
    body["properties"]["type"] = {"enum": list(COMMANDS)}
    body["properties"]["v"] = {"const": 1, "default": 1}
    body["properties"]["args"] = {"type": "object", "default": {}}
    expect = {"anyOf": [{"$ref": "#/$defs/ExpectBody"}, {"type": "null"}]}
    body["properties"]["expect"] = {"default": None}
    body["oneOf"] = [
        {
            "properties": {
                "type": {"const": request.command},
                "args": {"$ref": f"#/$defs/{args.__name__}"},
                "expect": expect if "expect" in request.__dataclass_fields__ else {"type": "null"},
            },
            "required": ["type", *(["args"] if any(one.required for one in fields(args)) else [])],
        }
        for request, args in ARGS.items()
    ]
    return {"$schema": _DIALECT, **body, "$defs": definitions}


def write(directory: Path) -> None:
    """Write every schema as a file of the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        (directory / f"{name}.json").write_text(json.dumps(schema, indent=2) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
