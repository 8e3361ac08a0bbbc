"""What tables show of a report."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from agent.core.fleet.messages import FIGURES, Report
from agent.core.report.figures import at
from agent.core.report.metrics import model_figures, reported_row

_LEVEL = 6
_LENGTH = 300  # characters of a text in a table
_UNDONE = {"rolled_back", "interrupted"}


def summary(model: str, report: Mapping[str, Any], body: bytes) -> Report:
    """Return a report as it is stored.

    Args:
        model: Name of the model.
        report: Any object; what is missing, or of another type than in report.json, is unknown.
        body: The report as JSON.
    """
    chosen = _text(report, "choice.candidate")
    row = reported_row(report, chosen) if chosen else {}
    figures = model_figures(row)
    activation = _text(report, "activation.state")
    trouble = ""
    if at(report, "choice.infeasible") is True:
        trouble = _text(report, "choice.why") or "no candidate keeps all limits"
    elif activation in _UNDONE:
        trouble = _text(report, "activation.detail") or activation
    return Report(
        model=model,
        model_sha256=_text(report, "model.sha256"),
        run=_text(report, "run_id"),
        precision=_text(row, "precision"),
        runtime=_text(row, "runtime"),
        candidate=chosen,
        release=_text(report, "activation.release"),
        activation=activation,
        headline=_text(report, "headline"),
        known=tuple(figures.get(name) for name in FIGURES),
        trouble=trouble,
        size=len(body),
        body=zlib.compress(body, _LEVEL),
    )


def _text(report: Mapping[str, Any], place: str) -> str:
    found = at(report, place)
    return found[:_LENGTH] if isinstance(found, str) else ""
