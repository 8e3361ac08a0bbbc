"""Fidelity of an engine, and the check of a release, with their runners; in a job's process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config
from agent.core.records import CalibrationSet, CleanModel, Digest, Engine, Evaluation
from agent.core.release.upgrade import conditions, foreign
from agent.jobs.comparison import comparison
from agent.jobs.engines import TENSORRT, platform, runner, with_runtime
from agent.jobs.frames import tensors
from agent.wiring.storage import releases, store

if TYPE_CHECKING:
    from agent.ports import EngineRunner, Progress, Tensors


def evaluate(
    config: Config,
    engines: tuple[Engine, Engine],
    model: tuple[CleanModel, Path],
    calibration: tuple[CalibrationSet, Path],
    *,
    digest: Digest,
    progress: Progress,
) -> Evaluation:
    """Run the evaluate stage for (engine, baseline)."""
    import psutil

    from agent.stages.evaluate import evaluate as stage

    engine, baseline = engines
    kept = store(config)
    process = psutil.Process()

    def make(which: Engine) -> Callable[[], EngineRunner]:
        path = Path(kept.directory(which.digest), which.file)
        return lambda: runner(config, which.runtime, path, which.dla_core)

    def held_out() -> Iterator[Tensors]:
        return tensors(config, model[0], calibration[1], calibration[0].holdout, batch=engine.batch)

    return stage(
        engine,
        digest=digest,
        make_runner=make(engine),
        make_baseline=make(baseline),
        tensors=held_out,
        comparison=comparison(
            config, [calibration[0].origins.get(name, "") for name in calibration[0].holdout]
        ),
        memory=lambda: int(process.memory_info().rss),
        progress=progress,
    )


def check_release(config: Config, release: str) -> None:
    """Load a release's engine as an application would, and run it once.

    Raises:
        RunnerError: if it doesn't load, run, or match its stated digest.
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
    """A TensorRT plan holds for the GPU it was built on; an ONNX file is portable."""
    if made_for.get("kind") != TENSORRT:
        return ""
    here = platform(with_runtime(config, TENSORRT))
    return ", ".join(foreign(made_for, conditions(here)))
