"""The part of the chain that frames decide: captured or taken over, conditioned, counted."""

from __future__ import annotations

import logging
from dataclasses import dataclass

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

_LOG = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Calibrating:
    """Finds or makes what INT8 scales are found with.

    Attributes:
        reused: What is taken over from an earlier run.
        window_s: Seconds that a capture watches.
        conditioning: What was tried to make the model easier to quantize, in words.
        counted: The statistics behind the scales; None until there are any.
        not_extended: Why earlier statistics were not added to, though asked; else empty.
    """

    run_id: str
    store: Store
    artifacts: Artifacts
    reused: ReusedCalibration
    window_s: float
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
        patience_s = 3 * self.window_s + 300
        return self.artifacts.get(
            "capture", digest, {"seed": int(digest[:8], 16)}, CalibrationSet, patience_s
        )

    def condition(
        self, model: CleanModel, calibration: CalibrationSet, scheme: str
    ) -> ConditionedModel:
        """Make the model easier to quantize, where that helps on these frames."""
        found = self._taken_over(model, scheme)
        if found is None:
            digest = digest_of("condition-3", model.digest, calibration.digest, scheme)
            spec = {"model": model.digest, "calibration": calibration.digest, "scheme": scheme}
            found = self.artifacts.get("condition", digest, spec, ConditionedModel)
        self.conditioning = found.tried
        return found

    def statistics(
        self, conditioned: ConditionedModel, model: CleanModel, calibration: CalibrationSet
    ) -> Statistics:
        """Run the calibration frames once, for all calibrators; add earlier ones if asked."""
        extends = self.reused.statistics if conditioned.digest == self.reused.conditioned else None
        digest = digest_of(
            "statistics-3", conditioned.digest, calibration.digest, *([extends] if extends else [])
        )
        spec = {
            "conditioned": conditioned.digest,
            "model": model.digest,
            "calibration": calibration.digest,
            "extends": extends,
        }
        self.counted = self.artifacts.get("statistics", digest, spec, Statistics)
        return self.counted

    def _taken_over(self, model: CleanModel, scheme: str) -> ConditionedModel | None:
        """Return the graph that the earlier statistics belong to, if they can be added to."""
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
