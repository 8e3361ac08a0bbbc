"""Every kind of job: how its spec becomes a stage with its adapters."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce, wraps
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from agent.core.errors import JobError, RunnerError
from agent.core.records import (
    CalibrationSet,
    CheckedIntake,
    CleanModel,
    ConditionedModel,
    Digest,
    Engine,
    LayerSpeeds,
    MixedFront,
    Platform,
    QuantizedModel,
    Statistics,
)
from agent.core.setup.facts import CameraFacts, ModelFacts
from agent.jobs import (
    engines,
    evaluating,
    frames,
    intake,
    labels,
    looking,
    measuring,
    predicting,
    quantizing,
    sensors,
    showing,
)
from agent.ports import Progress
from agent.wire import jobs as specs
from agent.wire.job_spec import Spec
from agent.wiring import storage

if TYPE_CHECKING:
    from agent.core.prediction.predict import Trial
    from agent.core.prediction.priors import Fleet

RecordT = TypeVar("RecordT")


class Job:
    """What a job has beside its spec.

    Args:
        spec: Its configuration names the store that the parents are read from.
        progress: Called with each report of progress.
    """

    def __init__(self, spec: Spec[Any], progress: Progress) -> None:
        self.progress = progress
        self._config = spec.config

    def parent(self, digest: Digest, kind: type[RecordT]) -> tuple[RecordT, Path]:
        """Return a stored record and the folder of its files.

        Raises:
            RunnerError: if it is not stored any more.
        """
        store = storage.store(self._config)
        found = store.get(digest, kind)
        if found is None:
            raise RunnerError(f"the {kind.__name__} record {digest[:12]} is gone from the store")
        return found, Path(store.directory(digest))


def _platform(spec: specs.FindPlatform, _: Job) -> Platform:
    return engines.platform(spec.config)


def _sensor(spec: specs.FindSensor, _: Job) -> str:
    return sensors.power_source(spec.config)[0]


def _model_facts(spec: specs.LookIntoModel, _: Job) -> ModelFacts:
    return looking.model_facts(spec.config)


def _camera_facts(spec: specs.LookAtCamera, _: Job) -> CameraFacts:
    return looking.camera_facts(spec.config)


def _look(spec: specs.LookUnderPresets, _: Job) -> str:
    return looking.look(spec)


def _trial(spec: specs.TimeTrial, job: Job) -> Trial:
    _, folder = job.parent(spec.model, CleanModel)
    return predicting.trial(spec.config, folder / "model.onnx", spec.batch, spec.platform)


def _fleet(spec: specs.ReadFleet, job: Job) -> Fleet:
    model, _ = job.parent(spec.model, CleanModel)
    return predicting.fleet(spec.config, model, spec.platform)


def _intake(spec: specs.CleanGraph, _: Job) -> CleanModel:
    return intake.intake(spec)


def _capture(spec: specs.CaptureFrames, job: Job) -> CalibrationSet:
    found = frames.capture(spec, job.progress)
    labels.check(spec.config, found, Path(spec.work))
    return found


def _check_intake(spec: specs.CheckIntake, job: Job) -> CheckedIntake:
    model = job.parent(spec.model, CleanModel)
    calibration = job.parent(spec.calibration, CalibrationSet)
    return intake.check_intake(spec, model, calibration, job.progress)


def _condition(spec: specs.ConditionModel, job: Job) -> ConditionedModel:
    model = job.parent(spec.model, CleanModel)
    calibration = job.parent(spec.calibration, CalibrationSet)
    return quantizing.condition(spec, model, calibration, job.progress)


def _statistics(spec: specs.CollectStatistics, job: Job) -> Statistics:
    return quantizing.statistics(
        spec,
        job.parent(spec.conditioned, ConditionedModel),
        job.parent(spec.model, CleanModel)[0],
        job.parent(spec.calibration, CalibrationSet),
        job.progress,
        extends=job.parent(spec.extends, Statistics) if spec.extends else None,
    )


def _layer_speeds(spec: specs.TimeLayers, job: Job) -> LayerSpeeds:
    return measuring.time_layers(
        spec,
        job.parent(spec.model, CleanModel)[0],
        job.parent(spec.conditioned, ConditionedModel)[1],
        job.parent(spec.statistics, Statistics)[1],
        job.parent(spec.calibration, CalibrationSet),
        job.progress,
    )


def _front(spec: specs.FindFront, job: Job) -> MixedFront:
    return quantizing.find_front(
        spec,
        job.parent(spec.conditioned, ConditionedModel),
        job.parent(spec.statistics, Statistics)[1],
        job.parent(spec.model, CleanModel)[0],
        job.parent(spec.calibration, CalibrationSet),
        speeds=job.parent(spec.speeds, LayerSpeeds)[0] if spec.speeds else None,
        progress=job.progress,
    )


def _quantize(spec: specs.QuantizeModel, job: Job) -> QuantizedModel:
    model = job.parent(spec.model, CleanModel)
    calibration = job.parent(spec.calibration, CalibrationSet)
    if spec.conditioned is None or spec.statistics is None:
        return quantizing.convert(spec, model, calibration)
    return quantizing.quantize(
        spec,
        job.parent(spec.conditioned, ConditionedModel),
        job.parent(spec.statistics, Statistics)[1],
        model[0],
        calibration,
        front=job.parent(spec.front, MixedFront)[0] if spec.front else None,
    )


def _build(spec: specs.BuildEngine, job: Job) -> Engine:
    return engines.build(spec, job.parent(spec.quantized, QuantizedModel), job.progress)


def _on_frames(
    run: Callable[[Any, CleanModel, tuple[CalibrationSet, Path], Progress], object],
) -> Callable[[Any, Job], object]:
    """Return the job that runs engines of a model on the frames of a calibration set."""

    @wraps(run)
    def job_of(spec: Any, job: Job) -> object:
        model, _ = job.parent(spec.model, CleanModel)
        return run(spec, model, job.parent(spec.calibration, CalibrationSet), job.progress)

    return job_of


def _check(spec: specs.CheckRelease, _: Job) -> str:
    evaluating.check_release(spec.config, spec.release)
    return "good"


def _render(spec: specs.RenderPage, job: Job) -> str:
    """Return report.html, with pictures of some frames if the configuration allows them."""
    from agent.page.render import render

    calibration = job.parent(spec.calibration, CalibrationSet)
    frames, small = showing.pictures(spec.config, spec.scenes, calibration)
    return render(spec.report, small, spec.sketches_ms, spec.traces, spec.scenes, frames)


KINDS: dict[type[Spec[Any]], Callable[[Any, Job], object]] = {
    specs.FindPlatform: _platform,
    specs.FindSensor: _sensor,
    specs.LookIntoModel: _model_facts,
    specs.LookAtCamera: _camera_facts,
    specs.LookUnderPresets: _look,
    specs.ReadFleet: _fleet,
    specs.TimeTrial: _trial,
    specs.CleanGraph: _intake,
    specs.CaptureFrames: _capture,
    specs.CheckIntake: _check_intake,
    specs.ConditionModel: _condition,
    specs.CollectStatistics: _statistics,
    specs.TimeLayers: _layer_speeds,
    specs.FindFront: _front,
    specs.QuantizeModel: _quantize,
    specs.BuildEngine: _build,
    specs.EvaluateEngine: _on_frames(evaluating.evaluate),
    specs.MeasureEngines: _on_frames(measuring.measure),
    specs.ProfileEngines: _on_frames(measuring.profile),
    specs.CheckRelease: _check,
    specs.ShowScenes: _on_frames(showing.show),
    specs.RenderPage: _render,
}
_ANY: Any = reduce(or_, KINDS)


def decode(body: bytes) -> Spec[Any]:
    """Return the spec that a run wrote.

    Raises:
        JobError: "bad_spec" if it is none.
    """
    try:
        found: Spec[Any] = msgspec.json.decode(body, type=_ANY)
    except msgspec.MsgspecError as e:
        raise JobError(f"the spec of the job can't be read: {e}", code="bad_spec") from e
    return found


def run(spec: Spec[Any], progress: Progress) -> object:
    """Run a job and return its result, of the class that its spec names."""
    return KINDS[type(spec)](spec, Job(spec, progress))
