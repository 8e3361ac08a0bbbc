"""What a run reuses of an earlier one instead of capturing and counting again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.records import ConditionedModel, Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ReusedCalibration:
    """Digests of records of an earlier run; all None for a run of its own.

    Attributes:
        calibration: Frames to use instead of a capture.
        conditioned: The graph that the statistics belong to.
        statistics: Statistics to which those of this run's frames are added.
    """

    calibration: Digest | None = None
    conditioned: Digest | None = None
    statistics: Digest | None = None

    @property
    def digests(self) -> frozenset[Digest]:
        """Digests that must not be removed during the run."""
        found = (self.calibration, self.conditioned, self.statistics)
        return frozenset(one for one in found if one is not None)


def digest_field(lineage: object, name: str) -> Digest | None:
    """Return a digest from the lineage of a model.json; None if it is missing or invalid."""
    found = lineage.get(name) if isinstance(lineage, Mapping) else None
    return Digest(found) if isinstance(found, str) and found.isalnum() else None


def mismatch(conditioned: ConditionedModel | None, model: Digest, scheme: str) -> str:
    """Return why earlier statistics can't be extended; empty if they can.

    Histograms of two runs add up only if both ran the same graph.
    """
    if conditioned is None:
        return "the graph that the earlier statistics belong to is no longer stored"
    if conditioned.model != model:
        return "the model has changed since the earlier statistics were taken"
    if conditioned.scheme != scheme:
        return f"the earlier statistics are for {conditioned.scheme}, this runtime takes {scheme}"
    if conditioned.weight_steps is None:
        return "the earlier statistics are of a version that did not set frames aside"
    return ""
