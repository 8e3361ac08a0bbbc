"""Reports of runs with candidates of the test's choosing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.core.choice.choose import choose
from agent.core.choice.requirements import Requirements
from agent.core.frames.input_spec import InputSpec
from agent.core.records import (
    Activation,
    CalibrationSet,
    Candidate,
    Choice,
    CleanModel,
    Digest,
    Floor,
    Rejected,
)
from agent.core.report.change import PreviousRelease
from agent.core.report.document import Report, compose
from agent.core.report.model_input import input_report


def report_of(
    candidates: Sequence[Candidate],
    *,
    limits: Mapping[str, float] | None = None,
    choice: Choice | None = None,
    floor: Floor | None = None,
    activation: Activation | None = None,
    previous: PreviousRelease | None = None,
    text: str = "small",
) -> Report:
    """Return the report of a run.

    Args:
        candidates: What the run looked at.
        limits: By the names of the configuration.
        choice: The real one for the candidates, unless another is given.
        floor: The fidelity floor.
        activation: What became of the choice; a first release, unless another is given.
        previous: The release that was active before.
        text: Stands wherever a name comes from outside: model, device, camera, environment.
    """
    limits = limits or {}
    choice = choice or choose(candidates, Requirements("latency", limits))
    active = choice.candidate is not None
    return compose(
        run_id="20261123T101500123-3f9a",
        device=text,
        trigger=f"command:{text}",
        started="2026-11-23T10:15:00Z",
        finished="2026-11-23T10:17:00Z",
        environment={"board": None, "cpu": text, "memory_mb": 7620},
        model=CleanModel(
            digest=Digest("m"),
            name=text,
            sha256="5" * 64,
            opset=17,
            inputs=(),
            outputs=(),
            macs=1_000_000,
            weight_bytes=4000,
            activation_bytes=400_000,
            changes=(f"dropped {text}",),
        ),
        fed=input_report(InputSpec(width=8, height=6), InputSpec(width=0, height=0), {}),
        calibration=CalibrationSet(
            digest=Digest("c"),
            source=f"images:///{text}",
            synthetic=False,
            width=640,
            height=480,
            frames=("0.png", "1.png"),
            holdout=("2.png",),
            seen=12,
            lost=0,
            rejected=Rejected(blur=1, exposure=0, duplicate=8),
        ),
        conditioning=(f"equalization of {text}: INT8 from 4.0 to 8.0 dB",),
        limits=limits,
        candidates=candidates,
        choice=choice,
        floor=floor,
        previous=previous,
        activation=activation
        or Activation(
            state="active" if active else "not_attempted",
            release="20261123T101500123-3f9a" if active else None,
            previous=None,
            detail=text,
        ),
        timings_s={"capture": 60.0},
    )
