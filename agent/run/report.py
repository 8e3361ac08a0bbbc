"""The report as bytes."""

from __future__ import annotations

import json

import msgspec

from agent.core.report.document import Report


def encode(report: Report) -> bytes:
    """Return report.json: UTF-8, indented, keys in the order of the schema."""
    return (json.dumps(msgspec.to_builtins(report), indent=2, allow_nan=False) + "\n").encode()
