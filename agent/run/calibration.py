"""The stages between the camera and the INT8 scales: capture, condition, statistics."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from agent import config as configuration
from agent.config import Config
from agent.core.errors import CalibrationError
from agent.core.records import (
    CalibrationSet,
    CleanModel,
    ConditionedModel,
    Digest,
    Statistics,
    digest_of,
)
from agent.core.release.reuse import ReusedCalibration, mismatch
from agent.ports import Store
from agent.run.artifacts import Artifacts
from agent.wire.jobs import CaptureFrames, CollectStatistics, ConditionModel

_LOG = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Calibrating:
    """Finds or makes the records from which INT8 scales are computed.

    Attributes:
        reused: Records of an earlier run to reuse.
        conditioning: What was tried to make the model easier to quantize, in words.
        counted: The statistics behind the scales; None until there are any.
        not_extended: Why nothing was added to earlier statistics, though asked; else "".
    """

    config: Config
    run_id: str
    store: Store
    artifacts: Artifacts
    reused: ReusedCalibration
    conditioning: tuple[str, ...] = ()
    counted: Statistics | None = None
    not_extended: str = ""

    def capture(self) -> CalibrationSet:
        """Take frames from the camera; once per run, so a resumed run keeps its frames.

        Raises:
            CalibrationError: "calibration_gone" if those of an earlier run were asked for and
                are no longer stored.
        """
        if self.reused.calibration is not None:
            return self._earlier(self.reused.calibration)
        digest = digest_of("capture-1", self.run_id)
        return self.artifacts.get(
            CaptureFrames(config=self.config, digest=digest, seed=int(digest[:8], 16))
        )

    def condition(
        self, model: CleanModel, calibration: CalibrationSet, scheme: str
    ) -> ConditionedModel:
        """Make the model easier to quantize, where that helps on these frames."""
        found = self._earlier_graph(model, scheme)
        if found is None:
            task = configuration.dump(self.config)["model"]["task"]  # its metric decides on steps
            refits = self.config.search.strategy != "fast"
            digest = digest_of(
                "condition-10", model.digest, calibration.digest, scheme, task, refits
            )
            found = self.artifacts.get(
                ConditionModel(
                    config=self.config,
                    digest=digest,
                    model=model.digest,
                    calibration=calibration.digest,
                    scheme=scheme,
                )
            )
        self.conditioning = found.tried
        return found

    def statistics(
        self, conditioned: ConditionedModel, model: CleanModel, calibration: CalibrationSet
    ) -> Statistics:
        """Run the calibration frames once, for all calibrators; add earlier ones if asked."""
        extends = self.reused.statistics if conditioned.digest == self.reused.conditioned else None
        digest = digest_of(
            "statistics-5", conditioned.digest, calibration.digest, *([extends] if extends else [])
        )
        self.counted = self.artifacts.get(
            CollectStatistics(
                config=self.config,
                digest=digest,
                conditioned=conditioned.digest,
                model=model.digest,
                calibration=calibration.digest,
                extends=extends,
            )
        )
        return self.counted

    def _earlier_graph(self, model: CleanModel, scheme: str) -> ConditionedModel | None:
        """Return the graph of the earlier statistics, if this run's can be added to them."""
        if self.reused.conditioned is None or self.reused.statistics is None:
            return None
        found = self.store.get(self.reused.conditioned, ConditionedModel)
        reason = mismatch(found, model.digest, scheme)
        if not reason and self.store.get(self.reused.statistics, Statistics) is None:
            reason = "the earlier statistics are no longer stored"
        if reason and not self.not_extended:
            _LOG.warning("statistics_not_extended %s", reason)
        self.not_extended = reason
        return None if reason else found

    def _earlier(self, digest: Digest) -> CalibrationSet:
        found = self.store.get(digest, CalibrationSet)
        if found is None:
            raise CalibrationError(
                f"the calibration frames {digest[:12]} are no longer stored",
                code="calibration_gone",
                hint="capture again: run without --reuse-calibration (reuse_calibration)",
            )
        return found
