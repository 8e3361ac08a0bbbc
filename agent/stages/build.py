"""Build of an engine from a quantized graph."""

from __future__ import annotations

import hashlib
from pathlib import Path

from agent.core.records import Digest, Engine, QuantizedModel
from agent.ports import Clock, EngineBuilder, Progress


def build(
    quantized: QuantizedModel,
    model_path: str,
    batch: int,
    *,
    digest: Digest,
    work: str,
    builder: EngineBuilder,
    clock: Clock,
    progress: Progress,
) -> Engine:
    """Write the engine under work and return its record.

    Raises:
        BuildError: with node, operator, reason and what to try.
    """
    begin = clock.monotonic_ns()
    name, layers = builder.build(model_path, batch, work, progress)
    seconds = (clock.monotonic_ns() - begin) / 1e9
    body = Path(work, name).read_bytes()
    return Engine(
        digest=digest,
        quantized=quantized.digest,
        runtime=builder.runtime,
        runtime_version=builder.version,
        device=builder.device,
        file=name,
        file_digest=hashlib.sha256(body).hexdigest(),
        size_bytes=len(body),
        build_s=round(seconds, 3),
        batch=batch,
        layers=layers,
        runnable=builder.runnable,
        dla_core=builder.dla_core,
    )
