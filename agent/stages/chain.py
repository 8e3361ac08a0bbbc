"""The whole chain, one run: every heavy arrow is a job in a child process, found again by digest.

This module stays light (no numpy, no runtime): the daemon runs it in its worker thread. A run
that was killed goes on where it stopped, because a stage whose inputs have been seen returns
its stored record.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from agent import config as configuration
from agent.config import Config
from agent.core import lineage
from agent.core.errors import BuildError, JobError, QuantdError, QuantizeError, RunnerError
from agent.core.lineage import (
    CalibrationSet,
    Candidate,
    CleanModel,
    Digest,
    Engine,
    Evaluation,
    Measurements,
    Platform,
    QuantizedModel,
    Recipe,
    Statistics,
    digest_of,
)
from agent.core.prediction import DeviceRates, PastMeasurement, predict
from agent.core.search import candidates, recipes
from agent.ports import Clock, Jobs, Store

RecordT = TypeVar("RecordT")
Observe = Callable[[str, int, int, str], None]
"""Called as observe(stage, done, total, note)."""

_TIMEOUT_S = {"intake": 600.0, "statistics": 7200.0, "quantize": 1800.0, "build": 7200.0}
_QUICK_TIMEOUT_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Ports:
    """What a run asks of the world."""

    store: Store
    jobs: Jobs
    clock: Clock
    history: Callable[[], tuple[PastMeasurement, ...]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Everything that a finished search knows; choice, activation and report follow."""

    platform: Platform
    model: CleanModel
    calibration: CalibrationSet
    candidates: tuple[Candidate, ...]
    timings_s: Mapping[str, float]


@dataclass(kw_only=True)
class Search:
    """One run up to the measurements.

    Args:
        config: The effective configuration.
        run_id: Names the run; a capture and its measurements belong to one run only.
        ports: Adapters.
        observe: Told of progress; called from the calling thread.
        cancelled: Set from outside to end the run within seconds.
    """

    config: Config
    run_id: str
    ports: Ports
    observe: Observe
    cancelled: threading.Event
    timings_s: dict[str, float] = field(default_factory=dict)

    def run(self) -> Outcome:
        """Capture, quantize, build, evaluate and measure every candidate.

        Raises:
            QuantdError: of the stage that every candidate depends on; what concerns one
                candidate only is told in its `failure`.
        """
        platform = self.platform()
        model = self.intake()
        calibration = self.capture()
        found = candidates(
            recipes(
                self.config.search.precisions, self.config.search.calibrators, platform.scheme
            ),
            self.config.search.batch,
            self.config.search.power_modes,
            platform,
        )
        found = self.predict(found, model, platform)
        made = [self.make(candidate, model, calibration) for candidate in self._counted(found)]
        judged = self._evaluate_all(made, model, calibration)
        measured = self.measure(judged, model, calibration)
        return Outcome(
            platform=platform,
            model=model,
            calibration=calibration,
            candidates=tuple(measured),
            timings_s=dict(self.timings_s),
        )

    def platform(self) -> Platform:
        """Find out what will execute, in a child, since looking loads the runtime."""
        with self._timed("platform"):
            return self._job("platform", {}, Platform, _QUICK_TIMEOUT_S)

    def intake(self) -> CleanModel:
        """Make the user's file an ordinary graph."""
        model = self.config.model
        identity = self._job("identify", {}, str, _QUICK_TIMEOUT_S)
        digest = digest_of("intake-1", identity, model.name, configuration.dump(self.config)["model"]["input"])
        return self._artifact("intake", digest, {}, CleanModel)

    def capture(self) -> CalibrationSet:
        """Take frames from the camera; once per run, so a resumed run keeps its frames."""
        settings = self.config.calibration
        digest = digest_of("capture-1", self.run_id)
        return self._artifact(
            "capture", digest, {"seed": int(digest[:8], 16)}, CalibrationSet,
            timeout_s=3 * settings.window_s + 300,
        )  # fmt: skip

    def statistics(self, model: CleanModel, calibration: CalibrationSet) -> Statistics:
        """One pass over the calibration frames, for all calibrators."""
        digest = digest_of("statistics-1", model.digest, calibration.digest)
        parents = {"model": model.digest, "calibration": calibration.digest}
        return self._artifact("statistics", digest, parents, Statistics)

    def quantize(
        self, recipe: Recipe, model: CleanModel, calibration: CalibrationSet
    ) -> QuantizedModel:
        """Put the recipe's precision into the graph."""
        statistics = self.statistics(model, calibration) if recipe.calibrator else None
        parent = statistics.digest if statistics else None
        digest = digest_of(
            "quantize-1", model.digest, parent, recipe.precision, recipe.calibrator, recipe.scheme
        )
        spec = {"model": model.digest, "statistics": parent, "recipe": recipe}
        return self._artifact("quantize", digest, spec, QuantizedModel)

    def build(self, quantized: QuantizedModel, batch: int, platform: Platform) -> Engine:
        """Build what the runtime executes; reused only on the very same platform."""
        digest = digest_of(
            "build-1", quantized.digest, batch, platform.runtime, platform.runtime_version,
            platform.device, self.config.runtime.workspace_mb, self.config.runtime.dla_core,
        )  # fmt: skip
        spec = {"quantized": quantized.digest, "batch": batch, "platform": platform}
        return self._artifact("build", digest, spec, Engine)

    def predict(
        self, found: tuple[Candidate, ...], model: CleanModel, platform: Platform
    ) -> tuple[Candidate, ...]:
        """Say before anything is built what each candidate should take."""
        rates = self._rates(platform)
        history = self.ports.history()
        return tuple(
            replace(
                candidate,
                predicted=predict(
                    candidate.recipe, model, candidate.runtime, candidate.batch, history, rates
                ),
            )
            for candidate in found
        )

    def make(
        self, candidate: Candidate, model: CleanModel, calibration: CalibrationSet
    ) -> Candidate:
        """Quantize and build one candidate; its own trouble ends only itself."""
        if candidate.failure:
            return candidate
        try:
            quantized = self.quantize(candidate.recipe, model, calibration)
            engine = self.build(quantized, candidate.batch, self.platform_cached)
        except (QuantizeError, BuildError, JobError) as error:
            return _failed(candidate, error)
        return replace(candidate, quantized=quantized, engine=engine)

    def evaluate(
        self, candidate: Candidate, baseline: Engine, model: CleanModel, calibration: CalibrationSet
    ) -> Candidate:
        """Find fidelity and memory through the built engine."""
        if candidate.engine is None:
            return candidate
        task = configuration.dump(self.config)["model"]["task"]
        digest = digest_of(
            "evaluate-1", candidate.engine.digest, baseline.digest, calibration.digest, task
        )
        spec = {
            "engine": candidate.engine,
            "baseline": baseline,
            "model": model.digest,
            "calibration": calibration.digest,
        }
        try:
            evaluation = self._artifact("evaluate", digest, spec, Evaluation)
        except (RunnerError, JobError) as error:
            return _failed(candidate, error)
        return replace(candidate, evaluation=evaluation)

    def measure(
        self, judged: list[Candidate], model: CleanModel, calibration: CalibrationSet
    ) -> list[Candidate]:
        """Measure all engines together in interleaved rounds."""
        engines = {c.id: c.engine for c in judged if c.engine and not c.failure}
        if not engines:
            return judged
        settings = self.config.measure
        digest = digest_of("measure-1", self.run_id, {k: e.digest for k, e in engines.items()})
        spec = {
            "engines": engines,
            "model": model.digest,
            "calibration": calibration.digest,
            "seed": int(digest[:8], 16),
        }
        budget_s = settings.idle_s + len(engines) * (settings.duration_s + settings.warmup_s)
        found = self._artifact(
            "measure", digest, spec, Measurements, timeout_s=3 * budget_s + 300
        )
        return [
            replace(
                c,
                measurement=found.measured.get(c.id),
                failure=c.failure or found.failed.get(c.id, ""),
            )
            for c in judged
        ]

    @property
    def platform_cached(self) -> Platform:
        """Return the platform found at the start of this run."""
        return self._platform

    def _evaluate_all(
        self, made: list[Candidate], model: CleanModel, calibration: CalibrationSet
    ) -> list[Candidate]:
        baselines = {c.batch: c.engine for c in made if c.recipe.precision == "fp32"}
        judged = []
        for candidate in self._counted(tuple(made), "evaluate"):
            baseline = baselines.get(candidate.batch)
            if baseline is None and not candidate.failure:
                candidate = replace(candidate, failure="the FP32 baseline could not be built")
            judged.append(
                self.evaluate(candidate, baseline, model, calibration) if baseline else candidate
            )
        return judged

    def _rates(self, platform: Platform) -> DeviceRates | None:
        digest = digest_of(
            "rates-1", platform.runtime, platform.runtime_version, platform.device,
            platform.scheme, self.config.runtime.threads,
        )  # fmt: skip
        try:
            return self._artifact("rates", digest, {"platform": platform}, DeviceRates)
        except (JobError, RunnerError, BuildError):
            return None  # predictions then say that nothing is known

    def _artifact(
        self,
        kind: str,
        digest: Digest,
        spec: Mapping[str, object],
        result: type[RecordT],
        timeout_s: float = 0.0,
    ) -> RecordT:
        """Return the stored record, or run the job and store what it made."""
        with self._timed(kind):
            found = self.ports.store.get(digest, result)
            if found is not None:
                self.observe(kind, 1, 1, "seen before, reused")
                return found
            with self.ports.store.stage(digest) as work:
                record = self._job(
                    kind,
                    {**spec, "digest": digest, "work": work},
                    result,
                    timeout_s or _TIMEOUT_S.get(kind, _QUICK_TIMEOUT_S),
                )
                self.ports.store.keep(digest, work, record)
            return record

    def _job(
        self, kind: str, spec: Mapping[str, object], result: type[RecordT], timeout_s: float
    ) -> RecordT:
        return self.ports.jobs.run(
            kind,
            {"config": configuration.dump(self.config), **spec},
            result,
            progress=lambda done, total, note: self.observe(kind, done, total, note),
            cancelled=self.cancelled,
            timeout_s=timeout_s,
        )

    @contextmanager
    def _timed(self, kind: str) -> Iterator[None]:
        begin = self.ports.clock.monotonic_ns()
        try:
            yield
        finally:
            spent = (self.ports.clock.monotonic_ns() - begin) / 1e9
            self.timings_s[kind] = round(self.timings_s.get(kind, 0.0) + spent, 3)


def _failed(candidate: Candidate, error: QuantdError) -> Candidate:
    if error.code == "canceled":
        raise error
    return replace(candidate, failure=error.message)


__all__ = ["Outcome", "Ports", "Search", "lineage"]
