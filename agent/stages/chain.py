"""The chain up to the measurements: every heavy arrow a child process, found again by digest.

This module stays light (no numpy, no runtime), because the daemon runs it in its worker
thread. A run that was killed goes on where it stopped: a stage whose inputs have been seen
returns its stored record.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from agent import config as configuration
from agent.config import Config
from agent.core.basis import Basis
from agent.core.errors import (
    BuildError,
    ConfigError,
    JobError,
    PowerError,
    QuantdError,
    RunnerError,
)
from agent.core.fleet import Fleet
from agent.core.journal import PastMeasurement
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
from agent.core.search import candidates, executable, recipes
from agent.core.shortlist import shortlist
from agent.core.upgrade import MACHINE_FACTS, SOFTWARE_FACTS
from agent.ports import Clock, Jobs, Store
from agent.stages.artifacts import Artifacts, Observe
from agent.stages.calibrating import Calibrating
from agent.stages.duration import planned_s, power_decides
from agent.stages.predicting import Predicting

_ENGINE_HOLDS_FOR = (*MACHINE_FACTS, *SOFTWARE_FACTS, "power_mode")
"""Facts of the platform, beside its runtime and device, without which an engine is not reused:
an engine may not load under another driver, GPUs of one name differ between boards, and its
kernels were timed in one power mode."""


_ENDS_THE_RUN = frozenset({"canceled", "disk_full"})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Everything known after the measurements; choice, activation and report follow.

    Attributes:
        conditioning: What was tried to make the model easier to quantize, in words.
        reused: True if the frames are those of an earlier run.
        counted: The statistics behind the INT8 scales, None where there are none.
        not_extended: Why they were not added to earlier ones, though asked; else empty.
    """

    platform: Platform
    model: CleanModel
    calibration: CalibrationSet
    candidates: tuple[Candidate, ...]
    conditioning: tuple[str, ...]
    reused: bool = False
    counted: Statistics | None = None
    not_extended: str = ""


@dataclass(kw_only=True)
class Chain:
    """The heavy stages of one run.

    Attributes:
        config: The effective configuration.
        run_id: Names the run; a capture and its measurements belong to one run only.
        history: What this device measured before, for prediction.
        observe: Told of progress, from the calling thread.
        cancelled: Set from outside to end the run within seconds.
        basis: What is taken over from an earlier run.
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
    basis: Basis = field(default_factory=Basis)
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
            protected=self.protected | self.basis.digests,
        )
        self._calibrating = Calibrating(
            run_id=self.run_id,
            store=self.store,
            artifacts=self._artifacts,
            basis=self.basis,
            window_s=self.config.calibration.window_s,
        )
        self._predicting = Predicting(
            config=self.config, artifacts=self._artifacts, history=self.history
        )
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
        calibration = self.capture()
        made = self.built(platform, model, calibration)
        judged = self._judged(made, model, calibration)
        if self.config.search.strategy == "fast":
            limits = configuration.dump(self.config)["limits"]
            judged = shortlist(judged, self.config.objective.metric, limits)
        measured = self.measure(judged, model, calibration)
        return Outcome(
            platform=platform,
            model=model,
            calibration=calibration,
            candidates=tuple(measured),
            conditioning=self._calibrating.conditioning,
            reused=self.basis.calibration is not None,
            counted=self._calibrating.counted,
            not_extended=self._calibrating.not_extended,
        )

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
        model = configuration.dump(self.config)["model"]
        digest = digest_of("intake-2", identity, model["name"], model["input"])
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
            "quantize-2",
            model.digest,
            None if recipe.precision == "fp32" else calibration.digest,
            spec["statistics"],
            asdict(recipe),
            self._goal() if recipe.precision == "int8-mixed" else None,
        )
        return self._artifacts.get("quantize", digest, spec, QuantizedModel)

    def _goal(self) -> object:
        """Return what int8-mixed looks for."""
        dumped = configuration.dump(self.config)
        limits = dumped["limits"]
        return dumped["model"]["task"], limits["sqnr_db"], limits["agreement"]

    def build(
        self, quantized: QuantizedModel, batch: int, platform: Platform, dla_core: int = -1
    ) -> Engine:
        """Build what the runtime executes; reused only on the very same platform."""
        digest = digest_of(
            "build-3",
            quantized.digest,
            batch,
            platform.runtime,
            platform.runtime_version,
            platform.device,
            {fact: platform.environment.get(fact) for fact in _ENGINE_HOLDS_FOR},
            {
                key: value
                for key, value in configuration.dump(self.config)["runtime"].items()
                if key not in {"kind", "dla_core"}
            },
            dla_core,
        )
        spec = {
            "quantized": quantized.digest,
            "batch": batch,
            "platform": platform,
            "dla_core": dla_core,
        }
        return self._artifacts.get("build", digest, spec, Engine)

    def quantized(
        self, platform: Platform, model: CleanModel, calibration: CalibrationSet
    ) -> list[Candidate]:
        """Return every candidate with its graph; one's own trouble ends only itself."""
        found = self._predicting.predicted(
            self.candidates(platform), model, platform, self._fleet(model, platform)
        )
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
                made.append(_failed(candidate, error))
        return made

    def built(
        self, platform: Platform, model: CleanModel, calibration: CalibrationSet
    ) -> list[Candidate]:
        """Return every candidate with its engine; one's own trouble ends only itself."""
        made = []
        for candidate in self._artifacts.counted(
            "build", self.quantized(platform, model, calibration)
        ):
            if candidate.quantized is None:
                made.append(candidate)
                continue
            try:
                engine = self.build(
                    candidate.quantized, candidate.batch, platform, candidate.dla_core
                )
                made.append(replace(candidate, engine=engine))
            except (BuildError, JobError) as error:
                made.append(_failed(candidate, error))
        return made

    def evaluate(
        self, candidate: Candidate, baseline: Engine, model: CleanModel, calibration: CalibrationSet
    ) -> Candidate:
        """Find fidelity and memory through the built engine."""
        if candidate.engine is None or candidate.failure:
            return candidate
        task = configuration.dump(self.config)["model"]["task"]
        digest = digest_of(
            "evaluate-2",
            candidate.engine.digest,
            baseline.digest,
            calibration.digest,
            task,
            _labels_digest(task["labels"]),
        )
        spec = {
            "engine": candidate.engine,
            "baseline": baseline,
            "model": model.digest,
            "calibration": calibration.digest,
        }
        try:
            evaluation = self._artifacts.get("evaluate", digest, spec, Evaluation)
        except (RunnerError, JobError) as error:
            return _failed(candidate, error)
        return replace(candidate, evaluation=evaluation)

    def measure(
        self, judged: Sequence[Candidate], model: CleanModel, calibration: CalibrationSet
    ) -> list[Candidate]:
        """Measure all engines together in interleaved rounds, one power mode after the other."""
        done: dict[str, Candidate] = {}
        for mode in dict.fromkeys(c.power_mode for c in judged):
            of_mode = [c for c in judged if c.power_mode == mode]
            done |= {c.id: c for c in self._measured(of_mode, mode, model, calibration)}
        return [done[c.id] for c in judged]

    def _measured(
        self,
        judged: Sequence[Candidate],
        power_mode: str | None,
        model: CleanModel,
        calibration: CalibrationSet,
    ) -> list[Candidate]:
        engines = {c.id: c.engine for c in judged if c.engine and not c.failure}
        if not engines:
            return list(judged)
        digests = {name: engine.digest for name, engine in engines.items()}
        digest = digest_of("measure-1", self.run_id, digests, power_mode)
        spec = {
            "engines": engines,
            "power_mode": power_mode,
            "baselines": [c.id for c in judged if c.recipe.precision == "fp32"],
            "model": model.digest,
            "calibration": calibration.digest,
            "seed": _seed(digest),
        }
        patience_s = 3 * planned_s(
            self.config.measure,
            [engine.batch for engine in engines.values()],
            stretches=power_decides(self.config),
        )
        try:
            found = self._artifacts.get("measure", digest, spec, Measurements, patience_s + 300)
        except PowerError as error:
            if error.code != "power_mode":
                raise
            return [_failed(c, error) if c.id in engines else c for c in judged]
        return [
            replace(
                c,
                measurement=found.measured.get(c.id),
                failure=c.failure or found.failed.get(c.id, ""),
            )
            for c in judged
        ]

    def _judged(
        self, made: Sequence[Candidate], model: CleanModel, calibration: CalibrationSet
    ) -> list[Candidate]:
        made = [executable(candidate) for candidate in made]
        baselines = {
            c.batch: c.engine for c in made if c.recipe.precision == "fp32" and not c.failure
        }
        judged = []
        for candidate in self._artifacts.counted("evaluate", made):
            baseline = baselines.get(candidate.batch)
            if baseline:
                judged.append(self.evaluate(candidate, baseline, model, calibration))
            else:
                reason = candidate.failure or "the FP32 baseline of this batch could not be built"
                judged.append(replace(candidate, failure=reason))
        return judged


def _labels_digest(file: str) -> str:
    """Return what is in the file of labels; one that can't be read is told by who needs it."""
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
    except OSError:
        return ""


def _seed(digest: Digest) -> int:
    return int(digest[:8], 16)


def _failed(candidate: Candidate, error: QuantdError) -> Candidate:
    if error.code in _ENDS_THE_RUN:
        raise error
    told = f"{error.message}; {error.hint}" if error.hint else error.message
    return replace(candidate, failure=told)
