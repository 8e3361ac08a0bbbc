"""The report of a run, schema 1: the chain's records put into one document. Pure.

What was not measured is None with a reason beside it, never 0. `configs/schema/report.json`
is generated from these classes.
"""

from __future__ import annotations

from agent.core.report.candidates import (
    CandidateFacts,
    EngineFacts,
    FidelityFacts,
    Predicted,
    QuantizationFacts,
)
from agent.core.report.document import (
    SCHEMA,
    CalibrationFacts,
    ChoiceFacts,
    ModelFacts,
    Report,
    compose,
)
from agent.core.report.measured import AtRateFacts, LatencyFacts, Measured, PowerFacts

__all__ = [
    "SCHEMA",
    "AtRateFacts",
    "CalibrationFacts",
    "CandidateFacts",
    "ChoiceFacts",
    "EngineFacts",
    "FidelityFacts",
    "LatencyFacts",
    "Measured",
    "ModelFacts",
    "PowerFacts",
    "Predicted",
    "QuantizationFacts",
    "Report",
    "compose",
]
