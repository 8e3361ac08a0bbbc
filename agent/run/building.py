"""The job that builds a candidate's engine, and the memory that it is expected to take."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from agent import config as configuration
from agent.config import Config
from agent.core.prediction.build_memory import build_shortage
from agent.core.records import Candidate, Platform, QuantizedModel, digest_of
from agent.core.release.upgrade import MACHINE_FACTS, SOFTWARE_FACTS
from agent.memory import default_reserve, free_bytes, scratch_mb
from agent.wire.jobs import BuildEngine

_LOG = logging.getLogger(__name__)
_ENGINE_HOLDS_FOR = (*MACHINE_FACTS, *SOFTWARE_FACTS, "power_mode")
"""Beside runtime and device, facts that must be the same to reuse an engine: another driver may not
load it, boards with the same GPU differ, and its kernels were timed in one power mode."""

_BUILT_WITH = {
    "tensorrt": ("workspace_mb", "builder_level", "compute_capability"),
    "onnxruntime": ("threads", "providers"),
}
"""Keys of [runtime] that an engine, or the figures of its build, depend on."""


def building(
    config: Config, candidate: Candidate, quantized: QuantizedModel, platform: Platform
) -> BuildEngine:
    """Return the job; an engine is reused only on the same platform."""
    settings = configuration.dump(config)["runtime"]
    digest = digest_of(
        "build-4",
        quantized.digest,
        candidate.batch,
        platform.runtime,
        platform.runtime_version,
        platform.device,
        {fact: platform.environment.get(fact) for fact in _ENGINE_HOLDS_FOR},
        {key: settings[key] for key in _BUILT_WITH[platform.runtime]},
        candidate.dla_core,
    )
    return BuildEngine(
        config=config,
        digest=digest,
        quantized=quantized.digest,
        batch=candidate.batch,
        platform=platform,
        dla_core=candidate.dla_core,
    )


def warned(config: Config, candidate: Candidate, graph: Path, platform: Platform) -> Candidate:
    """Return the candidate with what its build may lack of memory, and log that.

    Args:
        config: The effective configuration.
        candidate: The one to build.
        graph: The file of its graph.
        platform: If its GPU has memory of its own, the scratch memory is there.
    """
    reserve, shared = default_reserve(), platform.environment.get("gpu_memory") == "shared"
    workspace_mb = (config.runtime.workspace_mb or scratch_mb(reserve)) if shared else 0
    size = graph.stat().st_size if graph.exists() else 0
    reason = build_shortage(platform.runtime, size, workspace_mb, free_bytes(), reserve)
    if reason:
        _LOG.warning("build_short_of_memory candidate=%s %s", candidate.id, reason)
    return replace(candidate, short_of_memory=reason)
