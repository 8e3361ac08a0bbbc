"""What a run asks of the chosen candidate. Pure and numpy-free, because the daemon chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.core.choice.candidates import MeasuredCandidate
from agent.core.choice.limits import LIMITS, Limit
from agent.core.choice.objectives import OBJECTIVES, Objective
from agent.core.records import Floor


@dataclass(frozen=True, slots=True)
class Requirements:
    """An objective and limits; both must have an entry in their table.

    Attributes:
        metric: Key of the objective.
        limits: By the keys of LIMITS; 0 or absent is no limit.
        floor: Which of the limits is the fidelity floor; None if that is not known.

    Raises:
        ValueError: if one of them has no entry.
    """

    metric: str = next(iter(OBJECTIVES))
    limits: Mapping[str, float] = field(default_factory=dict)
    floor: Floor | None = None

    def __post_init__(self) -> None:
        unknown = {self.metric} - OBJECTIVES.keys() | self.limits.keys() - LIMITS.keys()
        if unknown:
            raise ValueError(f"no such objective or limit: {', '.join(sorted(unknown))}")

    @property
    def objective(self) -> Objective:
        """What the best candidate is best at."""
        return OBJECTIVES[self.metric]

    @property
    def power_decides(self) -> bool:
        """Whether the objective or a limit needs a power sensor."""
        needed = any(LIMITS[key].needs_power for key, bound in self.limits.items() if bound)
        return self.objective.needs_power or needed

    @property
    def latency_decides(self) -> bool:
        """Whether latency alone says which candidate wins."""
        return self.objective.frames is not None and not self.power_decides

    def bound(self, limit: Limit[MeasuredCandidate]) -> float:
        """Return the bound of a limit; 0 for none."""
        return self.limits.get(limit.key, 0.0)
