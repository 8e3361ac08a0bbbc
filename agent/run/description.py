"""model.json of the release that a run makes of its chosen candidate."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from agent.config import Config
from agent.core.errors import ActivationError
from agent.core.fidelity.task import Task
from agent.core.records import Candidate, Digest
from agent.core.release.identity import identity_of
from agent.core.release.upgrade import conditions
from agent.run.intake import fed_input
from agent.run.outcome import Outcome
from agent.wire.release import (
    Description,
    EngineFile,
    Lineage,
    RuntimeDescription,
    engine_tensors,
    provider_options,
)


def model_json(config: Config, outcome: Outcome, chosen: Candidate) -> dict[str, Any]:
    """Return the contents of model.json, its release not yet named."""
    model, engine, quantized = outcome.model, chosen.engine, chosen.quantized
    counted = outcome.counted  # kept for a float engine too: the next INT8 one starts from it
    if engine is None or quantized is None:
        raise ActivationError(f"{chosen.id} has no engine")
    inputs, outputs = engine_tensors(model, chosen.batch)
    described = asdict(
        Description(
            schema=2,
            release="",
            identity=Digest(""),
            name=model.name,
            candidate=chosen.id,
            precision=chosen.recipe.precision,
            power_mode=chosen.power_mode or outcome.platform.environment.get("power_mode"),
            launched=chosen.measurement.launched if chosen.measurement else None,
            batch=chosen.batch,
            inputs=inputs,
            outputs=outputs,
            preprocess=fed_input(config, model),
            task=task_of(config, chosen),
            runtime=_runtime(config, outcome, chosen, engine.dla_core),
            engine=EngineFile(file=engine.file, sha256=engine.file_digest, bytes=engine.size_bytes),
            lineage=Lineage(
                model_sha256=model.sha256,
                model=model.digest,
                calibration=outcome.calibration.digest,
                conditioned=counted.model if counted else None,
                statistics=counted.digest if counted else None,
                extends=counted.extends if counted else None,
                quantized=quantized.digest,
                engine=engine.digest,
                baseline=_baseline(outcome, chosen.batch),
            ),
        )
    )
    return described | {"identity": identity_of(described)}


def task_of(config: Config, candidate: Candidate) -> Task:
    """Return what the outputs mean, with the threshold that judged a candidate's single scores."""
    task, evaluation = config.model.task, candidate.evaluation
    return Task(
        kind=task.kind,
        decoding=task.decoding,
        names=task.names,
        threshold=evaluation.fidelity.threshold if evaluation else None,
    )


def _runtime(
    config: Config, outcome: Outcome, chosen: Candidate, dla_core: int
) -> RuntimeDescription:
    platform = outcome.platform
    used = str(platform.environment.get("providers") or "")
    providers = tuple(used.split(", ")) if platform.runtime == "onnxruntime" and used else ()
    made_for: dict[str, Any] = conditions(platform)
    return RuntimeDescription(
        **made_for,
        dla_core=dla_core,
        threads=config.runtime.threads,
        providers=providers,
        provider_options=provider_options(providers, chosen.recipe),
    )


def _baseline(outcome: Outcome, batch: int) -> Digest | None:
    found = (
        one.engine.digest
        for one in outcome.candidates
        if one.engine and one.recipe.is_baseline and one.batch == batch
    )
    return next(found, None)
