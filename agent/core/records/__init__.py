"""The records of the chain, frozen, each naming its parents by digest.

    CleanModel ─────┬─> ConditionedModel -> Statistics -> QuantizedModel -> Engine
    CalibrationSet ─┘
    Engine ─┬─> Evaluation  ─┬─> Choice -> Activation -> Report
            └─> Measurement ─┘

A digest identifies the inputs that made a record (parents, settings, format), so a stage
that finds the record of its inputs does not work again.
"""

from __future__ import annotations

from agent.core.records.choice import (
    UNPREDICTED,
    Activation,
    Candidate,
    Choice,
    Decision,
    Floor,
    Predicted,
    Prediction,
    Verdict,
    planned_id,
)
from agent.core.records.digests import Digest, digest_of
from agent.core.records.engine import Engine, Evaluation, Fidelity, Layers, SqnrGroup
from agent.core.records.frames import CalibrationSet, Rejected
from agent.core.records.graphs import (
    AS_GIVEN,
    FP32,
    MIXED,
    ConditionedModel,
    FrontMember,
    LayerCost,
    MixedFront,
    Quantization,
    QuantizedModel,
    Recipe,
    Statistics,
)
from agent.core.records.layers import (
    BaselineDifference,
    LayerDifference,
    LayerSpeed,
    LayerSpeeds,
    LayerTime,
    LayerTimes,
    Profiles,
)
from agent.core.records.measurement import (
    AtRate,
    Latency,
    Launches,
    Measured,
    Measurement,
    Measurements,
    Power,
    PowerTrace,
    PowerWindow,
    Timing,
)
from agent.core.records.model import (
    CheckedIntake,
    CleanModel,
    IntakeCheck,
    Model,
    Platform,
    RankedRows,
    TensorSpec,
)
from agent.core.records.scenes import Finding, Point, Scene, Scenes, View
