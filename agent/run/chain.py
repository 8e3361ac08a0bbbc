"""The chain up to the measurements: each heavy stage in a child process, its record stored.

This module imports no numpy and no runtime, because the daemon runs it in its worker thread. A
run that was killed is continued where it stopped: a stage returns its stored record if it has
one for the same inputs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.config import Config
from agent.core.choice.choose import choose
from agent.core.errors import BuildError, JobError
from agent.core.prediction.history import PastMeasurement
from agent.core.prediction.priors import Fleet
from agent.core.records import (
    CalibrationSet,
    Candidate,
    Choice,
    CleanModel,
    Engine,
    Platform,
    planned_id,
)
from agent.core.release.reuse import ReusedCalibration
from agent.core.search.candidates import candidates, failed, recipes
from agent.core.search.shortlist import doubtful, shortlist, wave, worth_making
from agent.ports import Clock, Jobs, Store
from agent.run.artifacts import Artifacts, Observe
from agent.run.building import building, warned
from agent.run.calibration import Calibrating
from agent.run.intake import checked, input_doubts, intake
from agent.run.judging import Judging
from agent.run.outcome import Outcome
from agent.run.prediction import Predicting
from agent.run.quantizing import Quantizing
from agent.wire.jobs import FindPlatform

_LOG = logging.getLogger(__name__)
Planned = Callable[[CleanModel, Sequence[Candidate]], None]


def log_doubt(words: str) -> None:
    """Log what is doubtful about the input of a model."""
    _LOG.warning("input_doubtful %s", words)


@dataclass(kw_only=True)
class Chain:
    """The heavy stages of one run.

    Attributes:
        config: The effective configuration.
        run_id: Of the run; a capture and its measurements belong to one run only.
        history: Measurements of earlier runs on this device, for prediction.
        observe: Called with progress, from the calling thread.
        cancelled: Set from outside to end the run within seconds.
        reused: Records of an earlier run to reuse.
        protected: Digests of the records behind the releases: they are never removed.
        warn: Called with a sentence on what is doubtful before the search begins.
        timings_s: Seconds spent by stage so far.
        planned: Called with the model and the candidates before anything that takes long.
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
    warn: Callable[[str], None] = log_doubt
    timings_s: dict[str, float] = field(default_factory=dict)
    planned: Planned = lambda *_: None

    def __post_init__(self) -> None:
        """Make the parts that find and make the records."""
        self._artifacts = Artifacts(
            store=self.store,
            jobs=self.jobs,
            clock=self.clock,
            observe=self.observe,
            cancelled=self.cancelled,
            timings_s=self.timings_s,
            protected=self.protected | self.reused.digests,
        )
        self._calibrating = Calibrating(
            config=self.config,
            run_id=self.run_id,
            store=self.store,
            artifacts=self._artifacts,
            reused=self.reused,
        )
        self._quantizing = Quantizing(
            config=self.config, artifacts=self._artifacts, calibrating=self._calibrating
        )
        self._predicting = Predicting(
            config=self.config, artifacts=self._artifacts, history=self.history
        )
        self._judging = Judging(config=self.config, run_id=self.run_id, artifacts=self._artifacts)
        self._fleet_figures: Fleet | None = None

    def run(self) -> Outcome:
        """Capture, quantize, build, evaluate and measure every candidate.

        Raises:
            QuantdError: of a stage that every candidate depends on; the error of one
                candidate is its `failure`.
        """
        platform = self.platform()
        model = self.intake()
        self._fleet(
            model, platform
        )  # a file that can't be read ends the run before the long capture
        self._judging.look_for_sensor()
        self.planned(model, self.candidates(platform, model))
        calibration = self.capture()
        model = self.checked(model, calibration)
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

    def profiled(self, outcome: Outcome, choice: Choice) -> Outcome:
        """Return the outcome with the layer times of a few candidates; see `Judging.profiled`."""
        found = self._judging.profiled(
            outcome.candidates, choice.candidate, outcome.model, outcome.calibration
        )
        return replace(outcome, candidates=found)

    def _searched(
        self,
        found: Sequence[Candidate],
        platform: Platform,
        model: CleanModel,
        calibration: CalibrationSet,
    ) -> list[Candidate]:
        """Make and measure only candidates that can win; all of them, if that leaves a doubt."""
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
        place = {c.id: index for index, c in enumerate(found)}
        judged.sort(key=lambda c: place[planned_id(c.id)])
        listed = shortlist(judged, requirements)
        measured = self._judging.measured(listed, model, calibration, fast=True)
        if not doubtful(measured, choose(measured, requirements), requirements):
            return measured
        _LOG.info("search_widened: what was left out might win after all, or nothing is feasible")
        again = [replace(c, failure="", left_out="") if c.left_out else c for c in judged]
        made = self.built(again, platform, model, calibration)
        judged = self._judging.evaluated(made, model, calibration)
        return self._judging.measured(judged, model, calibration, fast=False)

    def _fleet(self, model: CleanModel, platform: Platform) -> Fleet:
        if self._fleet_figures is None:
            self._fleet_figures = self._predicting.fleet(model, platform)
        return self._fleet_figures

    def candidates(self, platform: Platform, model: CleanModel) -> tuple[Candidate, ...]:
        """Return the candidates of the configured search."""
        search = self.config.search
        wanted = recipes(search.precisions, search.calibrators, platform.scheme, model)
        core = self.config.runtime.dla_core
        return candidates(wanted, search.batch, search.power_modes, platform, core)

    def platform(self) -> Platform:
        """Find the device and the runtime; in a child process, since that loads the runtime."""
        with self._artifacts.timed("platform"):
            return self._artifacts.run(FindPlatform(config=self.config))

    def intake(self) -> CleanModel:
        """Make the user's file an ordinary graph; see `intake.intake`."""
        return intake(self.config, self._artifacts)

    def checked(self, model: CleanModel, calibration: CalibrationSet) -> CleanModel:
        """Check the clean graph against the user's file on frames; see `intake.checked`."""
        found = checked(model, calibration, self.config, self._artifacts)
        if words := input_doubts(found, self.config):
            self.warn(words)
        return found

    def capture(self) -> CalibrationSet:
        """Take frames from the camera, or those of an earlier run; see `Calibrating.capture`."""
        return self._calibrating.capture()

    def predicted(self, platform: Platform, model: CleanModel) -> tuple[Candidate, ...]:
        """Return every candidate with its prediction."""
        return self._predicting.predicted(
            self.candidates(platform, model), model, platform, self._fleet(model, platform)
        )

    def quantized(
        self,
        found: Sequence[Candidate],
        platform: Platform,
        model: CleanModel,
        calibration: CalibrationSet,
    ) -> list[Candidate]:
        """Return candidates with their graphs; see `Quantizing.quantized`."""
        return self._quantizing.quantized(found, platform, model, calibration)

    def built(
        self,
        found: Sequence[Candidate],
        platform: Platform,
        model: CleanModel,
        calibration: CalibrationSet,
    ) -> list[Candidate]:
        """Return candidates with their engines; the failure of one leaves the others."""
        made = []
        quantized = self.quantized(found, platform, model, calibration)
        for candidate in self._artifacts.counted("build", quantized):
            if candidate.failure or candidate.quantized is None:
                made.append(candidate)
                continue
            spec, one = building(self.config, candidate, candidate.quantized, platform), candidate
            if self.store.get(spec.digest, Engine) is None:
                graph = Path(self.store.directory(candidate.quantized.digest), "model.onnx")
                one = warned(self.config, candidate, graph, platform)
            try:
                made.append(replace(one, engine=self._artifacts.get(spec)))
            except (BuildError, JobError) as error:
                made.append(failed(one, error))
        return made
