"""The fidelity that a graph with layers in float has to reach."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.choice.limits import AGREEMENT, SQNR
from agent.core.quantization.mixed_search import Noise
from agent.core.records import Fidelity

_FLOOR_DB = SQNR.floor or 0.0
_OTHER_FRAMES = 0.92
"""Of the half-width of a 95 % interval: 1.28 deviations of a difference of two means, over 1.96.

The means of two sets of as many frames differ by 1.41 standard errors; a difference beyond 1.28 such
deviations is seen in one direction in one of ten cases.
"""
_MARGIN_DB = 0.5  # where frames are too few for an interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The fidelity that the graph must reach on the calibration frames; 0 for no limit.

    Attributes:
        sqnr_db: Of the worst group of channels.
        agreement: Of the task's metric.
    """

    sqnr_db: float
    agreement: float

    @classmethod
    def of(cls, sqnr_db: float, agreement: float, has_metric: bool) -> Target:
        """Return the limits that are set, or the usual floor of the task if it was switched off."""
        if sqnr_db or agreement:
            return cls(sqnr_db=sqnr_db, agreement=agreement)
        if has_metric:
            return cls(sqnr_db=0.0, agreement=AGREEMENT.floor or 0.0)
        return cls(sqnr_db=_FLOOR_DB, agreement=0.0)

    def is_met(self, found: Fidelity | None) -> bool:
        """Return True if other frames meet the limits too, most probably.

        The margin is that in which nine of ten means of as many other frames lie. So a graph is
        seldom accepted by luck; the built engine is judged on held-out frames again. Where FP32 sees
        too little on the frames to judge the metric, SQNR by groups of channels stands in with its
        usual floor.

        Args:
            found: On frames that the graph was not made from; None if outputs are not finite.
        """
        if found is None:
            return False
        least_db = self.sqnr_db
        if self.agreement and found.agreement is not None:
            if found.agreement < self.agreement + _margin_agreement(self.agreement, found):
                return False
        elif self.agreement:
            if found.judged_frames is None:  # a task without a metric
                return False
            least_db = least_db or _FLOOR_DB
        return (
            not least_db or found.sqnr_db is None or found.sqnr_db >= least_db + _margin_db(found)
        )

    def allowed(self, groups: int) -> Noise:
        """Return the noise per group of channels that the SQNR limit, or the usual one, allows."""
        return (10 ** (-(self.sqnr_db or _FLOOR_DB) / 10),) * groups

    def __str__(self) -> str:
        limits = [f"{self.sqnr_db:g} dB"] if self.sqnr_db else []
        return " and ".join(
            [*limits, *([f"agreement {self.agreement:g}"] if self.agreement else [])]
        )


def _margin_db(found: Fidelity) -> float:
    """Return the margin above the limit, dB."""
    if found.sqnr_db is None or found.sqnr_db_ci95 is None:
        return _MARGIN_DB
    return _OTHER_FRAMES * (found.sqnr_db - found.sqnr_db_ci95[0])


def _margin_agreement(limit: float, found: Fidelity) -> float:
    """Return the margin above the limit, at most the same share of what is left above it.

    An agreement of 1 on a few frames has a wide interval, which no graph could leave behind.
    """
    room = 1 - limit
    if found.agreement is None or found.agreement_ci95 is None:
        return _OTHER_FRAMES * room
    return _OTHER_FRAMES * min(found.agreement - found.agreement_ci95[0], room)
