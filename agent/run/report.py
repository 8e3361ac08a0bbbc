"""The report as bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from agent.core.report.document import Report


def encode(report: Report) -> bytes:
    """Return report.json: UTF-8, indented, keys in the order of the schema."""
    return (json.dumps(_plain(report), indent=2, allow_nan=False) + "\n").encode()


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
