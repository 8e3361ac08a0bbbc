"""Predictions for all candidates, before anything is quantized or built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent import config as configuration
from agent.config import Config
from agent.config.boards import board
from agent.core.errors import BuildError, JobError, RunnerError
from agent.core.prediction.history import PastMeasurement
from agent.core.prediction.predict import Evidence, Trial, predict
from agent.core.prediction.priors import Fleet, in_mode
from agent.core.prediction.roofline import Peak
from agent.core.records import Candidate, CleanModel, Platform, Prediction, digest_of
from agent.run.artifacts import Artifacts
from agent.wire.jobs import ReadFleet, TimeTrial


@dataclass(frozen=True, kw_only=True)
class Predicting:
    """Gathers the evidence for predictions.

    Attributes:
        history: What this device measured before.
    """

    config: Config
    artifacts: Artifacts
    history: tuple[PastMeasurement, ...]

    def fleet(self, model: CleanModel, platform: Platform) -> Fleet:
        """Return what other devices measured of the model, if the configuration names a file.

        Raises:
            ConfigError: if `search.fleet` can't be read.
        """
        if not self.config.search.fleet and not self.config.camera.uri.startswith("profile:"):
            return Fleet()
        return self.artifacts.run(
            ReadFleet(config=self.config, model=model.digest, platform=platform)
        )

    def predicted(
        self, found: Sequence[Candidate], model: CleanModel, platform: Platform, fleet: Fleet
    ) -> tuple[Candidate, ...]:
        """Return the candidates with their predictions."""
        present = str(platform.environment.get("power_mode") or "")
        trials = {
            batch: self._trial(model, batch, platform)
            for batch in dict.fromkeys(c.batch for c in found if not c.failure)
        }

        peak = self._peak(platform)

        def prediction(one: Candidate) -> Prediction:
            mode = one.power_mode or present
            on_accelerator = one.dla_core >= 0
            evidence = Evidence(
                history=[
                    past
                    for past in self.history
                    if (past.power_mode, past.dla_core) == (mode, one.dla_core)
                ],
                trial=trials.get(one.batch) if mode == present and not on_accelerator else None,
                fleet=() if on_accelerator else in_mode(fleet.figures, mode),
                peak=None if on_accelerator else peak,
            )
            return predict(one.recipe, model, one.runtime, one.batch, evidence)

        return tuple(replace(one, predicted=prediction(one)) for one in found)

    def _peak(self, platform: Platform) -> Peak | None:
        """Return the peak rates of the GPU, if it executes the engines and the board is known."""
        if platform.runtime != "tensorrt":
            return None
        known = board(self.config.device.board)
        return known.peak.rates() if known else None

    def _trial(self, model: CleanModel, batch: int, platform: Platform) -> Trial | None:
        """Time the graph briefly, where the runtime needs no build for that."""
        if platform.runtime != "onnxruntime":
            return None
        digest = digest_of(
            "trial-1",
            model.digest,
            batch,
            platform.runtime_version,
            platform.device,
            platform.scheme,
            platform.environment.get("power_mode"),
            configuration.dump(self.config)["runtime"],
        )
        spec = TimeTrial(
            config=self.config, digest=digest, model=model.digest, batch=batch, platform=platform
        )
        try:
            return self.artifacts.get(spec)
        except (JobError, RunnerError, BuildError) as error:
            if error.code == "canceled":
                raise
            return None  # the prediction is then unknown
