"""How long a run takes: what its settings fix, what earlier runs took, and what is not known.

An estimate names what each part of it is from. What no setting fixes and no run of the same model
with the same candidates has shown is left out by name, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.core.choice.candidates import DECIDING_S
from agent.core.records import planned_id

CAPTURE, MAKE, MEASURE, FINISH = "capture", "make", "measure", "finish"
_WORDS = {
    CAPTURE: "capturing",
    MAKE: "quantizing, building and evaluating",
    MEASURE: "measuring",
    FINISH: "profiling and the report",
}
PART_OF = {
    "capture": CAPTURE,
    **dict.fromkeys(
        (
            *("intake_check", "trial", "condition", "statistics", "layer_speeds", "front"),
            *("quantize", "build", "evaluate"),
        ),
        MAKE,
    ),
    "measure": MEASURE,
    **dict.fromkeys(("choose", "profile", "activate", "report"), FINISH),
}
"""The part that each stage of a run belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a run.

    Attributes:
        name: CAPTURE, MAKE, MEASURE or FINISH.
        seconds: What it is expected to take; None if that is not known.
        basis: What that is from, or why it is not known, in words.
    """

    name: str
    seconds: float | None
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTime:
    """What a run is expected to take, in the order of its parts."""

    parts: tuple[Part, ...]

    @property
    def total(self) -> str:
        """The sum of the parts that are known, in words."""
        known_s = sum(one.seconds or 0.0 for one in self.parts)
        least = any(one.seconds is None for one in self.parts)
        return f"{'at least' if least else 'about'} {duration_words(known_s)}"

    @property
    def details(self) -> tuple[str, ...]:
        """Each part with its basis, in words."""
        return tuple(
            f"{_WORDS[one.name]}: "
            f"{'not known' if one.seconds is None else duration_words(one.seconds)}, {one.basis}"
            for one in self.parts
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What the settings fix: see [calibration] and [measure] of the configuration.

    Attributes:
        window_s: Of the capture; 0 if earlier frames are reused.
        idle_s: Once per power mode.
        paced: Whether each candidate is measured at the application's frame rate, too.
        power_decides: Whether the choice needs power, which takes longer windows.
        fast: Whether the search may leave candidates out.
    """

    window_s: float
    warmup_s: float
    duration_s: float
    idle_s: float
    paced: bool
    power_decides: bool
    fast: bool


def estimate(
    protocol: Protocol, candidates: int, power_modes: int, past: Sequence[Mapping[str, float]]
) -> RunTime:
    """Return what a run is expected to take.

    Args:
        protocol: The settings.
        candidates: How many there are to measure.
        power_modes: In how many power modes.
        past: Seconds by stage of earlier runs of the same model with the same candidates on this
            device.
    """
    reused = not protocol.window_s
    window = "calibration.window_s, or up to twice that if good frames are few"
    capture = "frames are reused" if reused else window
    return RunTime(
        parts=(
            Part(name=CAPTURE, seconds=protocol.window_s, basis=capture),
            _past_part(MAKE, past),
            _measuring(protocol, candidates, power_modes),
            _past_part(FINISH, past),
        )
    )


def _measuring(protocol: Protocol, candidates: int, power_modes: int) -> Part:
    each_s = max(protocol.duration_s, DECIDING_S) if protocol.power_decides else protocol.duration_s
    each_s *= 2 if protocol.paced else 1
    basis = f"[measure]: {candidates} candidates, each {each_s:g} s and a warm-up of "
    basis += f"{protocol.warmup_s:g} s; idle {protocol.idle_s * power_modes:g} s"
    if protocol.fast:
        basis += "; less where a fast search leaves candidates out"
    seconds = candidates * (protocol.warmup_s + each_s) + power_modes * protocol.idle_s
    return Part(name=MEASURE, seconds=seconds, basis=basis)


def _past_part(name: str, past: Sequence[Mapping[str, float]]) -> Part:
    stages = [stage for stage, part in PART_OF.items() if part == name]
    spent_s = [sum(one.get(stage, 0.0) for stage in stages) for one in past]
    if not any(spent_s):  # a run that was resumed may have none of them
        return Part(
            name=name,
            seconds=None,
            basis="since no earlier run here had this model and these candidates",
        )
    runs = "an earlier run" if len(past) == 1 else f"the longest of {len(past)} earlier runs"
    return Part(name=name, seconds=max(spent_s), basis=f"as {runs} of this model")


def duration_words(seconds: float) -> str:
    """Return a duration as people read it: "45 s", "4 min 40 s", "1 h 5 min"."""
    if 0.0 < seconds < 1.0:
        return "under 1 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def past_timings(
    reports: Iterable[Mapping[str, object]], sha256: str, ids: frozenset[str]
) -> tuple[Mapping[str, float], ...]:
    """Return seconds by stage of those reports that are of the same model and candidates.

    Args:
        reports: As report.json, of which every part may be damaged.
        sha256: Of the model's file.
        ids: Of the candidates as planned.
    """
    found = []
    for report in reports:
        match report:
            case {
                "model": {"sha256": str(model)},
                "candidates": [*candidates],
                "timings_s": {**timings},
            } if model == sha256:
                known = {
                    planned_id(str(one.get("id"))) for one in candidates if isinstance(one, dict)
                }
                if known == ids:
                    found.append(
                        {
                            str(k): float(v)
                            for k, v in timings.items()
                            if isinstance(v, (int, float))
                        }
                    )
    return tuple(found)
