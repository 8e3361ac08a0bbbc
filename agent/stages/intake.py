"""Intake of the user's model file: check, hash, clean graph."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from agent.config import Model
from agent.core.errors import ModelError
from agent.core.frames.preprocess import InputSpec
from agent.core.records import CleanModel, Digest
from agent.ports import Intake

_CHUNK = 1 << 20


def identify(settings: Model) -> str:
    """Return the sha256 of the model file, checked against model.sha256 if set.

    Raises:
        ModelError: "no_model" if the file can't be read; "wrong_model" if the sha256 differs.
    """
    path = Path(settings.path)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as source:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
    except OSError as e:
        raise ModelError(
            f"{path}: {e.strerror}", code="no_model", hint="check model.path or --model"
        ) from e
    seen = digest.hexdigest()
    if settings.sha256 and settings.sha256.lower() != seen:
        raise ModelError(
            f"{path} has sha256 {seen}, model.sha256 says {settings.sha256}",
            code="wrong_model",
            hint="put the right file there, or correct model.sha256",
        )
    return seen


def intake(
    settings: Model, spec: InputSpec, *, digest: Digest, work: str, intake: Intake
) -> CleanModel:
    """Write work/model.onnx and return its record.

    Raises:
        ModelError: with what is wrong with the file and what to do.
    """
    sha256 = identify(settings)
    clean = intake.clean(settings.path, settings.name, spec, work)
    return replace(clean, digest=digest, sha256=sha256)
