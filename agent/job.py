"""The child's side of a job: read the spec, run one stage, write JSON lines.

`python -m agent job SPEC` is started by `adapters/jobs_subprocess.py`. Standard output is the
protocol, so whatever libraries print there is sent to standard error instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agent import config as configuration
from agent.config import Config
from agent.core.errors import QuantdError, RunnerError
from agent.core.lineage import (
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
from agent.core.report import Report
from agent.disk import full_disk
from agent.ports import Progress
from agent.stages.judging import Sitting
from agent.wiring import heavy, measuring, places, predicting, quantizing, sensors

RecordT = TypeVar("RecordT")
_PR_SET_PDEATHSIG = 1
_NICE = {"intake": 10, "condition": 10, "statistics": 10, "quantize": 10, "build": 10, "capture": 5}
_ENDED_BY_THE_KERNEL = {"build"}
"""Kinds that SIGTERM ends at once: TensorRT calls back into Python from its own code, swallows
the SystemExit of a handler there and builds on. They leave nothing behind but their folder."""


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
        self.store = places.store(self.config)

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


def main(path: str) -> int:
    """Run the job that a spec file describes; return the exit status."""
    lines = _claim_stdout()
    _prepare_process()

    def say(**line: object) -> None:
        lines.write(msgspec.json.encode(line) + b"\n")
        lines.flush()

    def progress(done: int, total: int, note: str) -> None:
        say(progress=(done, total, note))

    try:
        spec = msgspec.json.decode(Path(path).read_bytes(), type=dict[str, Any])
        with contextlib.suppress(OSError):
            os.nice(_NICE.get(spec["kind"], 0))
        if spec["kind"] in _ENDED_BY_THE_KERNEL:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        where = spec.get("work") or spec["config"]["storage"]["dir"]
        with full_disk(Path(where)):
            result = KINDS[spec["kind"]](Job(spec, progress))
        say(result=result)
    except QuantdError as error:
        say(
            error={
                "kind": type(error).__name__,
                "code": error.code,
                "message": error.message,
                "hint": error.hint,
            }
        )
        return error.exit_code
    except MemoryError:
        say(error={"kind": "JobError", "code": "died", "message": f"{path}: out of memory"})
        return 1
    return 0


def _claim_stdout() -> Any:
    """Keep the real standard output for the protocol and point everyone else at stderr."""
    lines = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return lines


def _prepare_process() -> None:
    """Die with the parent, be the first to go when memory is short, end on SIGTERM cleanly."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides


def _identify(job: Job) -> str:
    return heavy.identify(job.config)


def _platform(job: Job) -> Platform:
    return heavy.platform(job.config)


def _trial(job: Job) -> object:
    _, folder = job.parent("model", CleanModel)
    return predicting.trial(
        job.config, folder / "model.onnx", job.spec["batch"], job.record("platform", Platform)
    )


def _fleet(job: Job) -> object:
    model, _ = job.parent("model", CleanModel)
    return predicting.fleet(job.config, model, job.record("platform", Platform))


def _intake(job: Job) -> CleanModel:
    return heavy.intake(job.config, job.digest, job.work)


def _capture(job: Job) -> CalibrationSet:
    return heavy.capture(
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
    return heavy.build(
        job.config,
        job.parent("quantized", QuantizedModel),
        job.record("platform", Platform),
        shape=(job.spec["batch"], job.spec["dla_core"]),
        digest=job.digest,
        work=job.work,
        progress=job.progress,
    )


def _evaluate(job: Job) -> object:
    return heavy.evaluate(
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
    heavy.check_release(job.config, str(job.spec["release"]))
    return "good"


def _render(job: Job) -> str:
    _, frames = job.parent("calibration", CalibrationSet)
    shown = frames if job.config.calibration.keep == "frames" else None
    return heavy.render(
        job.record("report", Report),
        shown,
        job.spec["sketches_ms"],
        job.record("traces", tuple[PowerTrace, ...]),
    )


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
