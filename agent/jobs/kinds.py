"""Every kind of job: its spec read, its stage run with adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agent import config as configuration
from agent.config import Config
from agent.core.errors import RunnerError
from agent.core.records import (
    CalibrationSet,
    CleanModel,
    ConditionedModel,
    Digest,
    Engine,
    Platform,
    PowerTrace,
    QuantizedModel,
    Recipe,
    Statistics,
)
from agent.core.report.document import Report
from agent.jobs import engines, evaluating, frames, measuring, predicting, quantizing, sensors
from agent.ports import Progress
from agent.ports.jobs import Sitting
from agent.wiring import storage

RecordT = TypeVar("RecordT")


class Job:
    """One job's spec and the store it reads its parents from.

    Args:
        spec: The decoded JSON: kind, config, and what the kind needs.
        progress: Where to report progress.
    """

    def __init__(self, spec: Mapping[str, Any], progress: Progress) -> None:
        self.spec = spec
        self.progress = progress
        self.config: Config = configuration.from_dump(spec["config"])
        self.store = storage.store(self.config)

    def record(self, key: str, kind: type[RecordT]) -> RecordT:
        """Return the record that the spec carries under a key."""
        return msgspec.convert(self.spec[key], kind)

    def parent(self, key: str, kind: type[RecordT]) -> tuple[RecordT, Path]:
        """Return the stored parent whose digest the spec names, and where its files lie."""
        digest = Digest(self.spec[key])
        found = self.store.get(digest, kind)
        if found is None:
            raise RunnerError(f"the {key} record {digest[:12]} is gone from the store")
        return found, Path(self.store.directory(digest))

    @property
    def digest(self) -> Digest:
        """Return the identity of the record to be made."""
        return Digest(self.spec["digest"])

    @property
    def work(self) -> str:
        """Return the directory to be filled."""
        return str(self.spec["work"])


def _identify(job: Job) -> str:
    return quantizing.identify(job.config)


def _platform(job: Job) -> Platform:
    return engines.platform(job.config)


def _trial(job: Job) -> object:
    _, folder = job.parent("model", CleanModel)
    return predicting.trial(
        job.config, folder / "model.onnx", job.spec["batch"], job.record("platform", Platform)
    )


def _fleet(job: Job) -> object:
    model, _ = job.parent("model", CleanModel)
    return predicting.fleet(job.config, model, job.record("platform", Platform))


def _intake(job: Job) -> CleanModel:
    return quantizing.intake(job.config, job.digest, job.work)


def _capture(job: Job) -> CalibrationSet:
    return frames.capture(
        job.config, job.digest, job.work, seed=job.spec["seed"], progress=job.progress
    )


def _condition(job: Job) -> ConditionedModel:
    model, calibration = job.parent("model", CleanModel), job.parent("calibration", CalibrationSet)
    blank = ConditionedModel(
        digest=job.digest,
        model=model[0].digest,
        calibration=calibration[0].digest,
        scheme=str(job.spec["scheme"]),
    )
    return quantizing.condition(
        job.config, blank, model, calibration, work=job.work, progress=job.progress
    )


def _statistics(job: Job) -> Statistics:
    conditioned = job.parent("conditioned", ConditionedModel)
    return quantizing.statistics(
        job.config,
        conditioned,
        job.parent("model", CleanModel)[0],
        job.parent("calibration", CalibrationSet),
        digest=job.digest,
        work=job.work,
        progress=job.progress,
        extends=job.parent("extends", Statistics) if job.spec["extends"] else None,
    )


def _quantize(job: Job) -> QuantizedModel:
    model, calibration = job.parent("model", CleanModel), job.parent("calibration", CalibrationSet)
    blank = QuantizedModel(
        digest=job.digest,
        model=model[0].digest,
        statistics=job.spec["statistics"],
        recipe=job.record("recipe", Recipe),
    )
    if blank.statistics is None:
        return quantizing.convert(job.config, blank, model, calibration, work=job.work)
    _, statistics_dir = job.parent("statistics", Statistics)
    conditioned, conditioned_dir = job.parent("conditioned", ConditionedModel)
    return quantizing.quantize(
        job.config,
        replace(blank, steps=conditioned.steps),
        conditioned_dir,
        statistics_dir,
        model[0],
        calibration,
        work=job.work,
        progress=job.progress,
    )


def _build(job: Job) -> Engine:
    return engines.build(
        job.config,
        job.parent("quantized", QuantizedModel),
        job.record("platform", Platform),
        shape=(job.spec["batch"], job.spec["dla_core"]),
        digest=job.digest,
        work=job.work,
        progress=job.progress,
    )


def _evaluate(job: Job) -> object:
    return evaluating.evaluate(
        job.config,
        (job.record("engine", Engine), job.record("baseline", Engine)),
        job.parent("model", CleanModel),
        job.parent("calibration", CalibrationSet),
        digest=job.digest,
        progress=job.progress,
    )


def _measure(job: Job) -> object:
    return measuring.measure(
        job.config,
        job.record("sitting", Sitting),
        job.parent("model", CleanModel),
        job.parent("calibration", CalibrationSet),
        progress=job.progress,
    )


def _sensor(job: Job) -> str:
    return sensors.power_source(job.config)[0]


def _check(job: Job) -> str:
    evaluating.check_release(job.config, str(job.spec["release"]))
    return "good"


def _render(job: Job) -> str:
    _, frames = job.parent("calibration", CalibrationSet)
    shown = frames if job.config.calibration.keep == "frames" else None
    return _page(
        job.record("report", Report),
        shown,
        job.spec["sketches_ms"],
        job.record("traces", tuple[PowerTrace, ...]),
    )


def _page(
    report: Report,
    frames: Path | None,
    sketches_ms: Mapping[str, Sequence[float]],
    traces: Sequence[PowerTrace],
) -> str:
    """Return report.html, with sample frames unless there is no folder to take them from."""
    from agent.page.render import render

    pictures = (
        [path.read_bytes() for path in sorted((frames / "thumbnails").glob("*.jpg"))]
        if frames
        else []
    )
    return render(report, pictures, sketches_ms, traces)


KINDS: dict[str, Callable[[Job], object]] = {
    "identify": _identify,
    "platform": _platform,
    "trial": _trial,
    "fleet": _fleet,
    "intake": _intake,
    "capture": _capture,
    "condition": _condition,
    "statistics": _statistics,
    "quantize": _quantize,
    "build": _build,
    "evaluate": _evaluate,
    "sensor": _sensor,
    "measure": _measure,
    "check": _check,
    "render": _render,
}
