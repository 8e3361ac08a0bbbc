"""What is left of a run, refined while it proceeds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from agent.core.prediction.run_time import (
    CAPTURE,
    FINISH,
    MAKE,
    MEASURE,
    PART_OF,
    Part,
    RunTime,
    duration_words,
)

_ORDER = (CAPTURE, MAKE, MEASURE, FINISH)
_LIKE_STEPS = (CAPTURE, MEASURE)
"""The parts with steps about equally long: those done show what the others will take."""

_MOST_STEPS = 0.5


@dataclass(slots=True)
class TimeLeft:
    """Follows the progress of a run.

    Attributes:
        expected: What the run is expected to take.
        began_s: When it began, on any steady clock.
        now_s: The time of the last observation.
    """

    expected: RunTime
    began_s: float
    now_s: float = 0.0
    _part: str = ""
    _share: float = 0.0
    _spent_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _returned: bool = False

    def __post_init__(self) -> None:
        """Begin with nothing spent."""
        self.now_s = self.began_s

    def observe(self, stage: str, done: int, total: int, now_s: float) -> None:
        """Note how far a stage is, as progress reports it; a total of 0 means unknown."""
        self._spent_s[self._part] += now_s - self.now_s
        self.now_s = now_s
        part = PART_OF.get(stage, self._part)
        if part != self._part:
            self._share = 0.0
        # a fast search makes what it left out after all
        self._returned |= bool(self._part) and _ORDER.index(part) < _ORDER.index(self._part)
        self._part = part
        if part in _LIKE_STEPS and total:
            self._share = done / total

    @property
    def spent_s(self) -> float:
        """Seconds since the beginning."""
        return self.now_s - self.began_s

    @property
    def left_s(self) -> float:
        """Seconds that are left, without the parts of which that is not known."""
        return sum(self._left_of(part) or 0.0 for part in self._ahead)

    @property
    def words(self) -> str:
        """What is left, for a person."""
        unknown = any(self._left_of(part) is None for part in self._ahead)
        if unknown and self.left_s < 1.0:
            return "time left not known"
        left = duration_words(self.left_s)
        return f"at least {left} left" if unknown else f"{left} left"

    @property
    def _ahead(self) -> list[Part]:
        first = _ORDER.index(self._part) if self._part else 0
        return [part for part in self.expected.parts if _ORDER.index(part.name) >= first]

    def _left_of(self, part: Part) -> float | None:
        """Return the seconds that a part still takes; None if that is not known."""
        if part.seconds is None or (self._returned and part.name != FINISH):
            return None
        if part.name != self._part:
            return part.seconds
        spent_s = self._spent_s[part.name]
        left_s = part.seconds - spent_s
        by_steps_s = spent_s * (1.0 - self._share) / self._share if self._share else None
        if left_s < 0.0 or by_steps_s is None:
            return by_steps_s if left_s < 0.0 else left_s
        # the first steps are warm-ups; a fast search skips steps
        return min(left_s, by_steps_s) if self._share > _MOST_STEPS else left_s
