"""How faithful and how fast every engine is: each compared with FP32, all measured together."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent import config as configuration
from agent.config import Config
from agent.core.errors import JobError, PowerError, RunnerError
from agent.core.records import (
    CalibrationSet,
    Candidate,
    CleanModel,
    Digest,
    Engine,
    Evaluation,
    Measurements,
    PowerTrace,
    digest_of,
)
from agent.core.search.candidates import executable, failed
from agent.core.search.shortlist import same_graph_alternatives
from agent.ports.jobs import Sitting
from agent.run.artifacts import Artifacts

_LOG = logging.getLogger(__name__)
_SILENCE_S = 900.0  # while the largest engine is loaded, say


@dataclass(frozen=True, kw_only=True)
class Judging:
    """Evaluates and measures; one candidate's trouble ends only itself.

    Attributes:
        run_id: Measurements belong to one run only.
        traces: Of power, one for each sitting of the last time that all were measured.
    """

    config: Config
    run_id: str
    artifacts: Artifacts
    traces: list[PowerTrace] = field(default_factory=list)

    def look_for_sensor(self) -> None:
        """Tell early if the sensor that is asked for, or that decides, is not there.

        Raises:
            PowerError: of the one that is asked for by name.
        """
        wanted, decides = self.config.measure.power, self.config.requirements.power_decides
        if wanted == "none" or (wanted == "auto" and not decides):
            found = ""
        else:
            found = self.artifacts.job("sensor", {}, str)
        if decides and not found:
            _LOG.warning(
                "no_power_sensor measure.power=%s: power decides and will not be known, so nothing "
                "can be chosen; quantd doctor tells which sensors were looked for",
                wanted,
            )

    def evaluated(
        self,
        made: Sequence[Candidate],
        model: CleanModel,
        calibration: CalibrationSet,
        before: Sequence[Candidate] = (),
    ) -> list[Candidate]:
        """Return every candidate with its fidelity and memory, found through its engine.

        Args:
            made: The candidates, with their engines.
            model: The clean model.
            calibration: The frames.
            before: Those evaluated before, who may hold the baselines.
        """
        made = [executable(candidate) for candidate in made]
        baselines = {
            c.batch: c.engine
            for c in (*before, *made)
            if c.recipe.precision == "fp32" and not c.failure
        }
        judged = []
        for candidate in self.artifacts.counted("evaluate", made):
            baseline = baselines.get(candidate.batch)
            if baseline:
                judged.append(self._evaluated(candidate, baseline, model, calibration))
            else:
                reason = candidate.failure or "the FP32 baseline of this batch could not be built"
                judged.append(replace(candidate, failure=reason))
        return judged

    def _evaluated(
        self, candidate: Candidate, baseline: Engine, model: CleanModel, calibration: CalibrationSet
    ) -> Candidate:
        """Find fidelity and memory through the built engine."""
        if candidate.engine is None or candidate.failure:
            return candidate
        task = configuration.dump(self.config)["model"]["task"]
        digest = digest_of(
            "evaluate-4",
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
            evaluation = self.artifacts.get("evaluate", digest, spec, Evaluation)
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

    def _on_the_bench(self, engines: Mapping[str, Engine]) -> str:
        """Return who was loaded, warmed up or measured when the job ended; "" if nobody was."""
        name = self.artifacts.last_note.split(",", maxsplit=1)[0].rsplit(" ", maxsplit=1)[-1]
        return name if name in engines else ""

    def _protocol(self, *, fast: bool) -> object:
        """Return how it is measured: in a run by hand the same engines may be measured anew."""
        dumped = configuration.dump(self.config)
        decides = self.config.requirements.power_decides
        left_out = (dumped["objective"], dumped["limits"])  # who may be depends on them
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
        """Measure in one mode; who kills the job is left out, once, and the others begin anew."""
        engines = {c.id: c.engine for c in judged if c.engine and not c.failure}
        if not engines:
            return list(judged)
        digests = {name: engine.digest for name, engine in engines.items()}
        digest = digest_of("measure-3", self.run_id, digests, power_mode, self._protocol(fast=fast))
        spec = {
            "sitting": Sitting(
                engines=engines,
                power_mode=power_mode,
                baselines=tuple(c.id for c in judged if c.recipe.precision == "fp32"),
                spares=same_graph_alternatives(judged),
                seed=_seed(digest),
                fast=fast,
            ),
            "model": model.digest,
            "calibration": calibration.digest,
        }
        silence_s = self.config.measure.idle_s + _SILENCE_S
        try:
            found = self.artifacts.get("measure", digest, spec, Measurements, silence_s)
        except PowerError as error:
            return [failed(c, error) if c.id in engines else c for c in judged]
        except JobError as error:
            alone = self._on_the_bench(engines) if again else ""
            lost = {alone} if alone and len(engines) > 1 else engines.keys()
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
    """Return what is in the file of labels; one that can't be read is told by who needs it."""
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
    except OSError:
        return ""


def _seed(digest: Digest) -> int:
    return int(digest[:8], 16)
