"""The chain up to the measurements: every heavy arrow a child process, found again by digest.

This module stays light (no numpy, no runtime), because the daemon runs it in its worker
thread. A run that was killed goes on where it stopped: a stage whose inputs have been seen
returns its stored record.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from agent import config as configuration
from agent.config import Config
from agent.core.choice.choose import choose
from agent.core.choice.limits import AGREEMENT, SQNR
from agent.core.errors import BuildError, ConfigError, JobError, QuantdError
from agent.core.prediction.history import PastMeasurement
from agent.core.prediction.priors import Fleet
from agent.core.records import (
    CalibrationSet,
    Candidate,
    CleanModel,
    Engine,
    Platform,
    PowerTrace,
    QuantizedModel,
    Recipe,
    Statistics,
    digest_of,
)
from agent.core.release.reuse import ReusedCalibration
from agent.core.release.upgrade import MACHINE_FACTS, SOFTWARE_FACTS
from agent.core.search.candidates import candidates, failed, recipes
from agent.core.search.shortlist import doubtful, shortlist, wave, worth_making
from agent.ports import Clock, Jobs, Store
from agent.run.artifacts import Artifacts, Observe
from agent.run.calibration import Calibrating
from agent.run.judging import Judging
from agent.run.prediction import Predicting

_LOG = logging.getLogger(__name__)
_ENGINE_HOLDS_FOR = (*MACHINE_FACTS, *SOFTWARE_FACTS, "power_mode")
"""Facts of the platform, beside its runtime and device, without which an engine is not reused:
an engine may not load under another driver, GPUs of one name differ between boards, and its
kernels were timed in one power mode."""

_BUILT_WITH = {
    "tensorrt": ("workspace_mb", "builder_level", "compute_capability"),
    "onnxruntime": ("threads", "providers"),
}
"""Keys of [runtime] that an engine, or what was found of it while it was built, depends on."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Everything known after the measurements; choice, activation and report follow.

    Attributes:
        conditioning: What was tried to make the model easier to quantize, in words.
        reused: True if the frames are those of an earlier run.
        counted: The statistics behind the INT8 scales, None where there are none.
        not_extended: Why they were not added to earlier ones, though asked; else empty.
        traces: Of power, one for each power mode.
    """

    platform: Platform
    model: CleanModel
    calibration: CalibrationSet
    candidates: tuple[Candidate, ...]
    conditioning: tuple[str, ...]
    reused: bool = False
    counted: Statistics | None = None
    not_extended: str = ""
    traces: tuple[PowerTrace, ...] = ()


@dataclass(kw_only=True)
class Chain:
    """The heavy stages of one run.

    Attributes:
        config: The effective configuration.
        run_id: Names the run; a capture and its measurements belong to one run only.
        history: What this device measured before, for prediction.
        observe: Told of progress, from the calling thread.
        cancelled: Set from outside to end the run within seconds.
        reused: What is taken over from an earlier run.
        protected: Digests of what the releases were made from: they are never removed.
        timings_s: Seconds spent by stage so far.
    """

    config: Config
    run_id: str
    store: Store
    jobs: Jobs
    clock: Clock
    history: tuple[PastMeasurement, ...]
    observe: Observe
    cancelled: threading.Event
    reused: ReusedCalibration = field(default_factory=ReusedCalibration)
    protected: frozenset[str] = frozenset()
    timings_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Bind what finds and makes the records."""
        self._artifacts = Artifacts(
            config=self.config,
            store=self.store,
            jobs=self.jobs,
            clock=self.clock,
            observe=self.observe,
            cancelled=self.cancelled,
            timings_s=self.timings_s,
            protected=self.protected | self.reused.digests,
        )
        self._calibrating = Calibrating(
            run_id=self.run_id,
            store=self.store,
            artifacts=self._artifacts,
            reused=self.reused,
            window_s=self.config.calibration.window_s,
        )
        self._predicting = Predicting(
            config=self.config, artifacts=self._artifacts, history=self.history
        )
        self._judging = Judging(config=self.config, run_id=self.run_id, artifacts=self._artifacts)
        self._told_by_fleet: Fleet | None = None

    def run(self) -> Outcome:
        """Capture, quantize, build, evaluate and measure every candidate.

        Raises:
            QuantdError: of a stage that every candidate depends on; what concerns one
                candidate only is told in its `failure`.
        """
        platform = self.platform()
        model = self.intake()
        self._fleet(model, platform)  # a file that can't be read is told before the long capture
        self._judging.look_for_sensor()
        calibration = self.capture()
        found = self.predicted(platform, model)
        if self.config.search.strategy == "fast":
            measured = self._searched(found, platform, model, calibration)
        else:
            made = self.built(found, platform, model, calibration)
            judged = self._judging.evaluated(made, model, calibration)
            measured = self._judging.measured(judged, model, calibration, fast=False)
        return Outcome(
            platform=platform,
            model=model,
            calibration=calibration,
            candidates=tuple(measured),
            conditioning=self._calibrating.conditioning,
            reused=self.reused.calibration is not None,
            counted=self._calibrating.counted,
            not_extended=self._calibrating.not_extended,
            traces=tuple(self._judging.traces),
        )

    def _searched(
        self,
        found: Sequence[Candidate],
        platform: Platform,
        model: CleanModel,
        calibration: CalibrationSet,
    ) -> list[Candidate]:
        """Make and measure only what can win; everybody, if that leaves a doubt."""
        requirements = self.config.requirements
        judged: list[Candidate] = []
        pending = list(found)
        while pending:
            now, pending = wave(pending, requirements)
            made = self.built(now, platform, model, calibration)
            judged += self._judging.evaluated(made, model, calibration, before=judged)
            pending = worth_making(pending, judged, requirements)
            judged += [c for c in pending if c.left_out]
            pending = [c for c in pending if not c.left_out]
        by_id = {c.id: c for c in shortlist(judged, requirements)}
        listed = [by_id[c.id] for c in found]
        measured = self._judging.measured(listed, model, calibration, fast=True)
        if not doubtful(measured, choose(measured, requirements), requirements):
            return measured
        _LOG.info("search_widened: what was left out might win after all, or nothing is feasible")
        lost = {c.id: c for c in judged if c.failure and not c.left_out}  # and would be again
        made = self.built([lost.get(c.id, c) for c in found], platform, model, calibration)
        judged = self._judging.evaluated(made, model, calibration)
        return self._judging.measured(judged, model, calibration, fast=False)

    def _fleet(self, model: CleanModel, platform: Platform) -> Fleet:
        if self._told_by_fleet is None:
            self._told_by_fleet = self._predicting.fleet(model, platform)
        return self._told_by_fleet

    def candidates(self, platform: Platform) -> tuple[Candidate, ...]:
        """Return what the configuration asks to be looked at."""
        search = self.config.search
        wanted = recipes(search.precisions, search.calibrators, platform.scheme)
        core = self.config.runtime.dla_core
        return candidates(wanted, search.batch, search.power_modes, platform, core)

    def platform(self) -> Platform:
        """Find out what will execute; in a child, since looking loads the runtime."""
        with self._artifacts.timed("platform"):
            return self._artifacts.job("platform", {}, Platform)

    def intake(self) -> CleanModel:
        """Make the user's file an ordinary graph."""
        with self._artifacts.timed("intake"):
            identity = self._artifacts.job("identify", {}, str)
        model = self.config.model
        digest = digest_of("intake-2", identity, model.name, model.input.in_effect())
        return self._artifacts.get("intake", digest, {}, CleanModel)

    def capture(self) -> CalibrationSet:
        """Take frames from the camera, or those of an earlier run; see `Calibrating.capture`."""
        return self._calibrating.capture()

    def quantize(
        self, recipe: Recipe, model: CleanModel, calibration: CalibrationSet
    ) -> QuantizedModel:
        """Put the recipe's precision into the graph."""
        spec: dict[str, object] = {
            "model": model.digest,
            "calibration": calibration.digest,
            "recipe": recipe,
            "statistics": None,
        }
        if recipe.calibrator and recipe.scheme:
            conditioned = self._calibrating.condition(model, calibration, recipe.scheme)
            spec["conditioned"] = conditioned.digest
            spec["statistics"] = self._calibrating.statistics(
                conditioned, model, calibration
            ).digest
        digest = digest_of(
            "quantize-3",
            model.digest,
            None if recipe.precision == "fp32" else calibration.digest,
            spec["statistics"],
            asdict(recipe),
            self._goal() if recipe.precision == "int8-mixed" else None,
        )
        return self._artifacts.get("quantize", digest, spec, QuantizedModel)

    def _goal(self) -> object:
        """Return what int8-mixed looks for."""
        requirements = self.config.requirements
        bounds = requirements.bound(SQNR), requirements.bound(AGREEMENT)
        return configuration.dump(self.config)["model"]["task"], *bounds

    def build(
        self, quantized: QuantizedModel, batch: int, platform: Platform, dla_core: int = -1
    ) -> Engine:
        """Build what the runtime executes; reused only on the very same platform."""
        settings = configuration.dump(self.config)["runtime"]
        digest = digest_of(
            "build-4",
            quantized.digest,
            batch,
            platform.runtime,
            platform.runtime_version,
            platform.device,
            {fact: platform.environment.get(fact) for fact in _ENGINE_HOLDS_FOR},
            {key: settings[key] for key in _BUILT_WITH[platform.runtime]},
            dla_core,
        )
        spec = {
            "quantized": quantized.digest,
            "batch": batch,
            "platform": platform,
            "dla_core": dla_core,
        }
        return self._artifacts.get("build", digest, spec, Engine)

    def predicted(self, platform: Platform, model: CleanModel) -> tuple[Candidate, ...]:
        """Return every candidate with what it should take."""
        return self._predicting.predicted(
            self.candidates(platform), model, platform, self._fleet(model, platform)
        )

    def quantized(
        self, found: Sequence[Candidate], model: CleanModel, calibration: CalibrationSet
    ) -> list[Candidate]:
        """Return candidates with their graphs; one's own trouble ends only itself."""
        made = []
        for candidate in self._artifacts.counted("quantize", found):
            if candidate.failure:
                made.append(candidate)
                continue
            try:
                quantized = self.quantize(candidate.recipe, model, calibration)
                made.append(replace(candidate, quantized=quantized))
            except ConfigError:
                raise  # how the model is judged, say: it concerns all candidates, and the user
            except QuantdError as error:
                made.append(failed(candidate, error))
        return made

    def built(
        self,
        found: Sequence[Candidate],
        platform: Platform,
        model: CleanModel,
        calibration: CalibrationSet,
    ) -> list[Candidate]:
        """Return candidates with their engines; one's own trouble ends only itself."""
        made = []
        quantized = self.quantized(found, model, calibration)
        for candidate in self._artifacts.counted("build", quantized):
            if candidate.failure or candidate.quantized is None:
                made.append(candidate)
                continue
            try:
                engine = self.build(
                    candidate.quantized, candidate.batch, platform, candidate.dla_core
                )
                made.append(replace(candidate, engine=engine))
            except (BuildError, JobError) as error:
                made.append(failed(candidate, error))
        return made
