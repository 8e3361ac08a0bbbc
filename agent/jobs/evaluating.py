"""Fidelity of an engine, and the check of a release, with their runners; in a job's process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config
from agent.core.records import CalibrationSet, CleanModel, Evaluation
from agent.core.release.upgrade import conditions, foreign
from agent.jobs.comparison import comparison
from agent.jobs.engines import TENSORRT, platform, runner, stored_runner, with_runtime
from agent.jobs.frames import tensors
from agent.jobs.labels import accuracy
from agent.wire.jobs import EvaluateEngine
from agent.wiring.storage import releases

if TYPE_CHECKING:
    from agent.ports import Progress, Tensors


def evaluate(
    spec: EvaluateEngine,
    model: CleanModel,
    calibration: tuple[CalibrationSet, Path],
    progress: Progress,
) -> Evaluation:
    """Run the evaluate stage on the held-out frames of a calibration set in its folder."""
    import psutil

    from agent.stages.evaluate import evaluate as stage

    config = spec.config
    frames, folder = calibration
    names = frames.holdout
    process = psutil.Process()

    def held_out() -> Iterator[Tensors]:
        return tensors(config, model, folder, names, batch=spec.engine.batch)

    return stage(
        spec.engine,
        digest=spec.digest,
        make_runner=partial(stored_runner, config, spec.engine),
        make_baseline=partial(stored_runner, config, spec.baseline),
        tensors=held_out,
        comparison=lambda: comparison(config, model, accuracy(config, model, frames, folder)),
        memory=lambda: int(process.memory_info().rss),
        progress=progress,
    )


def check_release(config: Config, release: str) -> None:
    """Load a release's engine as an application would, and run it once.

    Raises:
        RunnerError: if it doesn't load, run, or match its digest in model.json.
    """
    from agent.stages.evaluate import check_release as stage

    folder = Path(releases(config).path(release))
    stage(
        folder,
        lambda made_for, path: runner(
            config, str(made_for["kind"]), path, int(made_for.get("dla_core", -1))
        ),
        lambda made_for: _refusal(config, made_for),
    )


def _refusal(config: Config, made_for: Mapping[str, object]) -> str:
    """Return why a TensorRT plan can't be loaded here; it is valid only for its own GPU."""
    if made_for.get("kind") != TENSORRT:
        return ""
    here = platform(with_runtime(config, TENSORRT))
    return ", ".join(foreign(made_for, conditions(here)))
