"""The user's model, found and made ordinary before anything else is done."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path

from agent.config import Config, Model
from agent.core.errors import ModelError
from agent.core.fidelity.decoders import check_outputs
from agent.core.frames.input_spec import InputSpec, resolved
from agent.core.frames.pixels import describe
from agent.core.records import CalibrationSet, CleanModel, IntakeCheck, digest_of
from agent.core.report.candidates import reported
from agent.disk import sha256_of
from agent.run.artifacts import Artifacts
from agent.wire.jobs import CheckIntake, CleanGraph

_LOG = logging.getLogger(__name__)


def intake(config: Config, artifacts: Artifacts) -> CleanModel:
    """Make the user's file an ordinary graph, and check that it has the outputs of its task.

    Raises:
        ModelError: if the file can't be used.
        ConfigError: "decode" if the boxes of a detector can't be read from its outputs.
    """
    model = config.model
    with artifacts.timed("intake"):
        sha256 = _checked_sha256(model)
    digest = digest_of("intake-7", sha256, model.name, model.input.in_effect())
    found = artifacts.get(CleanGraph(config=config, digest=digest, sha256=sha256))
    if found.quantized:
        _LOG.warning("model_is_quantized %s; see model.changes in the report", found.quantized)
    if decoding := model.task.decoding:
        check_outputs(decoding, {output.name: output.shape for output in found.outputs})
    return found


def checked(
    model: CleanModel, calibration: CalibrationSet, config: Config, artifacts: Artifacts
) -> CleanModel:
    """Return the model with what its check on frames found; see `input_doubts`.

    Raises:
        ModelError: "intake_differs" if it does not compute what the user's file does; "not_finite"
            if that can't be judged at all.
        ConfigError: "decode" if a detector's numbers can't be boxes and scores.
    """
    decoding = config.model.task.decoding
    digest = digest_of(
        "intake-check-5",
        model.digest,
        calibration.digest,
        config.model.task.kind,
        decoding and asdict(decoding),
    )
    found = artifacts.get(
        CheckIntake(
            config=config, digest=digest, model=model.digest, calibration=calibration.digest
        )
    )
    if found.reason:
        _LOG.warning("intake_not_checked %s", found.reason)
    return replace(model, intake=reported(IntakeCheck, found))


def input_doubts(model: CleanModel, config: Config) -> str:
    """Return what the baseline finds that a wrong input would explain; empty if nothing is."""
    found = model.intake.doubts if model.intake else ()
    if not found:
        return ""
    fed = describe(fed_input(config, model))
    return f"{'; '.join(found)}: is the input right? It is fed {fed}"


def _checked_sha256(model: Model) -> str:
    """Return the sha256 of the model file.

    Raises:
        ModelError: if the file can't be read, or has another sha256 than the configured one.
    """
    try:
        found = sha256_of(Path(model.path))
    except OSError as e:
        raise ModelError(
            f"{model.path}: {e.strerror}", code="no_model", hint="check model.path or --model"
        ) from e
    if model.sha256 and model.sha256.lower() != found:
        raise ModelError(
            f"{model.path} has sha256 {found}, model.sha256 is {model.sha256}",
            code="wrong_model",
            hint="put the right file there, or correct model.sha256",
        )
    return found


def fed_input(config: Config, model: CleanModel) -> InputSpec:
    """Return the input as an application must feed it, which model.json and the report state."""
    return resolved(config.model.input.spec, model.inputs[0].shape)
