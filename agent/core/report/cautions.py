"""What to be careful about in a report, and what the input came from, in words.

Reports are as in report.json; keys that an earlier version did not write may be absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.core.report.figures import Row
from agent.core.report.model_input import ALWAYS
from agent.core.report.overview import chosen, compared_with
from agent.core.report.wording import still_scene

_FEW = 16  # frames to judge by


def cautions(report: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a reader should know before relying on the figures; empty if nothing stands out."""
    return tuple(dict.fromkeys(_found(report)))


def _found(report: Mapping[str, Any]) -> Iterator[str]:
    yield from report.get("warnings", ())
    calibration, mine = report["calibration"], chosen(report)
    if report["choice"]["nearest_miss"]:
        yield f"nearest miss: {report['choice']['nearest_miss']}"
    if calibration["synthetic"]:
        yield "the frames are synthetic: a test pattern, not a scene"
    if still := still_scene(calibration):
        yield still
    floor = report.get("floor")
    if floor and not floor["bound"]:
        yield f"there is no fidelity floor (limits.{floor['limit']} = 0)"
    if mine:
        yield from _judged(mine, report["limits"])
        yield from (f"{mine['id']}: {reason}" for reason in _doubts(mine))
    baseline = compared_with(report)
    if mine and baseline and baseline is not mine:
        yield from (f"{baseline['id']}: {reason}" for reason in baseline.get("flags", ()))
    checked = report["model"].get("intake") or {}
    if checked.get("reason"):
        yield f"the clean graph was not compared with the model file: {checked['reason']}"


def _judged(mine: Row, limits: Mapping[str, float]) -> Iterator[str]:
    found = mine["fidelity"] or {}
    agreement, span = found.get("agreement"), found.get("agreement_ci95")
    frames = found.get("frames") or 0
    judged = found.get("judged_frames")
    if agreement is not None and judged is not None and judged < frames:
        yield f"FP32 sees something on {judged} of {frames} frames only"
    elif 0 < frames < _FEW:
        yield f"fidelity was judged on {frames} frames only"
    limit = limits.get("agreement", 0.0)
    if limit and span and agreement is not None and span[0] < limit <= agreement:
        yield (
            f"the 95 % interval of the agreement reaches down to {100 * span[0]:.3g} %, under the "
            f"limit of {100 * limit:.3g} %"
        )


def _doubts(mine: Row) -> list[str]:
    notes = [one.removeprefix("note: ") for one in mine["reasons"] if one.startswith("note: ")]
    return [*notes, *(flag for flag in mine.get("flags", ()) if flag not in notes)]


def input_origins(report: Mapping[str, Any]) -> str:
    """Return where the input's values came from, but for what is always so; "" if not reported."""
    origins = (report.get("input") or {}).get("origin") or {}
    names: dict[str, list[str]] = {}
    for name, source in origins.items():
        if source != ALWAYS:
            names.setdefault(source, []).append(name)
    return "; ".join(f"{', '.join(found)}: {source}" for source, found in names.items())
