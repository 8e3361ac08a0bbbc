"""Evaluate each engine against FP32, and measure all of them together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent import config as configuration
from agent.config import Config
from agent.core.errors import JobError, PowerError, QuantdError, RunnerError
from agent.core.records import (
    CalibrationSet,
    Candidate,
    CleanModel,
    Engine,
    PowerTrace,
    Profiles,
    digest_of,
)
from agent.core.search.candidates import executable, failed
from agent.core.search.profiling import to_profile
from agent.core.search.shortlist import same_graph_alternatives
from agent.disk import sha256_of
from agent.run.artifacts import Artifacts
from agent.wire.jobs import EvaluateEngine, FindSensor, MeasureEngines, ProfileEngines

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Judging:
    """Evaluates and measures; the failure of one candidate leaves the others.

    Attributes:
        run_id: Measurements belong to one run only.
        traces: Of power, one for each power mode, of the last time that all were measured.
    """

    config: Config
    run_id: str
    artifacts: Artifacts
    traces: list[PowerTrace] = field(default_factory=list)

    def look_for_sensor(self) -> None:
        """Look for a sensor if one is configured or power decides; warn if there is none.

        Raises:
            PowerError: if the one that is configured by name can't be used.
        """
        wanted, decides = self.config.measure.power, self.config.requirements.power_decides
        if wanted == "none" or (wanted == "auto" and not decides):
            found = ""
        else:
            found = self.artifacts.run(FindSensor(config=self.config))
        if decides and not found:
            _LOG.warning(
                "no_power_sensor measure.power=%s: power decides and will not be known, so nothing "
                "can be chosen; quantd doctor lists the sensors that were tried",
                wanted,
            )

    def evaluated(
        self,
        made: Sequence[Candidate],
        model: CleanModel,
        calibration: CalibrationSet,
        before: Sequence[Candidate] = (),
    ) -> list[Candidate]:
        """Return every candidate with the fidelity and memory of its engine.

        Args:
            made: The candidates, with their engines.
            model: The clean model.
            calibration: The frames.
            before: Candidates evaluated before, which may include the baselines.
        """
        made = [executable(candidate) for candidate in made]
        baselines = {
            c.batch: c.engine for c in (*before, *made) if c.recipe.is_baseline and not c.failure
        }
        judged = []
        for candidate in self.artifacts.counted("evaluate", made):
            baseline = baselines.get(candidate.batch)
            if baseline:
                judged.append(self._evaluated(candidate, baseline, model, calibration))
            else:
                reason = candidate.failure or "the baseline of this batch could not be built"
                judged.append(replace(candidate, failure=reason))
        return judged

    def _evaluated(
        self, candidate: Candidate, baseline: Engine, model: CleanModel, calibration: CalibrationSet
    ) -> Candidate:
        """Return a candidate with the fidelity and memory of its engine."""
        if candidate.engine is None or candidate.failure:
            return candidate
        task = configuration.dump(self.config)["model"]["task"]
        digest = digest_of(
            "evaluate-13",
            candidate.engine.digest,
            baseline.digest,
            calibration.digest,
            task,
            _labels_digest(task["labels"]),
        )
        spec = EvaluateEngine(
            config=self.config,
            digest=digest,
            engine=candidate.engine,
            baseline=baseline,
            model=model.digest,
            calibration=calibration.digest,
        )
        try:
            evaluation = self.artifacts.get(spec)
        except (RunnerError, JobError) as error:
            return failed(candidate, error)
        return replace(candidate, evaluation=evaluation)

    def measured(
        self,
        judged: Sequence[Candidate],
        model: CleanModel,
        calibration: CalibrationSet,
        *,
        fast: bool,
    ) -> list[Candidate]:
        """Measure all engines together in interleaved rounds, one power mode after the other."""
        self.traces.clear()
        done: dict[str, Candidate] = {}
        for mode in dict.fromkeys(c.power_mode for c in judged):
            of_mode = [c for c in judged if c.power_mode == mode]
            done |= {c.id: c for c in self._in_mode(of_mode, mode, model, calibration, fast=fast)}
        return [done[c.id] for c in judged]

    def profiled(
        self,
        measured: Sequence[Candidate],
        chosen: str | None,
        model: CleanModel,
        calibration: CalibrationSet,
    ) -> tuple[Candidate, ...]:
        """Return the candidates, those worth it with the times of their layers.

        Nothing depends on these times, so an error is a reason in the report.
        """
        engines, baselines = to_profile(measured, chosen)
        if not engines:
            return tuple(measured)
        digests = {name: engine.digest for name, engine in engines.items()}
        spec = ProfileEngines(
            config=self.config,
            digest=digest_of("profile-1", self.run_id, digests, baselines),
            engines=engines,
            baselines=baselines,
            model=model.digest,
            calibration=calibration.digest,
        )
        try:
            found = self.artifacts.get(spec)
        except QuantdError as error:
            if error.code == "canceled":
                raise
            found = Profiles(profiled={}, failed=dict.fromkeys(engines, error.message))
        return tuple(
            replace(
                one,
                layer_times=found.profiled.get(one.id),
                layer_times_reason=found.failed.get(one.id, ""),
            )
            if one.id in engines
            else one
            for one in measured
        )

    def _protocol(self, *, fast: bool) -> object:
        """Return the settings that measurements depend on, for their digest."""
        dumped = configuration.dump(self.config)
        decides = self.config.requirements.power_decides
        left_out = (dumped["objective"], dumped["limits"])  # they decide which may be
        launches = dumped["runtime"]["cuda_graphs"]
        return dumped["measure"], launches, decides, left_out if fast else None

    def _in_mode(
        self,
        judged: Sequence[Candidate],
        power_mode: str | None,
        model: CleanModel,
        calibration: CalibrationSet,
        *,
        fast: bool,
        again: bool = True,
    ) -> list[Candidate]:
        """Measure in one mode; after a job died, once more without the candidate it was at."""
        engines = {c.id: c.engine for c in judged if c.engine and not c.failure}
        if not engines:
            return list(judged)
        digests = {name: engine.digest for name, engine in engines.items()}
        digest = digest_of("measure-3", self.run_id, digests, power_mode, self._protocol(fast=fast))
        spec = MeasureEngines(
            config=self.config,
            digest=digest,
            engines=engines,
            power_mode=power_mode,
            baselines=tuple(c.id for c in judged if c.recipe.is_baseline),
            same_graph_alternatives=same_graph_alternatives(judged),
            seed=int(digest[:8], 16),
            fast=fast,
            model=model.digest,
            calibration=calibration.digest,
        )
        try:
            found = self.artifacts.get(spec)
        except PowerError as error:
            return [failed(c, error) if c.id in engines else c for c in judged]
        except JobError as error:
            culprit = self.artifacts.candidate if again and len(engines) > 1 else ""
            lost = {culprit} if culprit in engines else engines.keys()
            judged = [failed(c, error) if c.id in lost else c for c in judged]
            return self._in_mode(judged, power_mode, model, calibration, fast=fast, again=False)
        self.traces.append(found.trace)
        return [
            replace(
                c,
                measurement=found.measured.get(c.id),
                failure=c.failure or found.failed.get(c.id, ""),
            )
            for c in judged
        ]


def _labels_digest(file: str) -> str:
    """Return the digest of the labels; "" if they can't be read: the evaluation reports that."""
    try:
        return sha256_of(Path(file)) if file and Path(file).is_file() else ""
    except OSError:
        return ""
