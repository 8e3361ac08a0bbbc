"""A device's report.json, read as hostile text: the typed report, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from agent.core.report.document import Report
from agent.ports.fleet import FleetStore


class UnreadableError(Exception):
    """A report that this version can't show; the text is the reason."""


def document(store: FleetStore, device: str, report: str) -> Mapping[str, Any] | None:
    """Return report.json as values; None if it isn't there or is no JSON object."""
    body = store.report(device, report)
    if body is None:
        return None
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def typed(body: bytes) -> Report:
    """Return a report.json as the page takes it.

    Raises:
        UnreadableError: If it isn't a report of this version's schema.
    """
    try:
        return msgspec.json.decode(body, type=Report)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError(str(error) or "nested too deep") from error
