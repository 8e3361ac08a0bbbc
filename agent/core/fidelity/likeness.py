"""How alike the results of two engines on one frame are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agent.core.fidelity.box_decoding import Outputs, decode
from agent.core.fidelity.box_matching import THRESHOLDS, assigned
from agent.core.fidelity.comparison import Comparison
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.results import Classes, ClassMap, Result
from agent.core.fidelity.similarity import similarity_of
from agent.core.fidelity.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How alike two results on one frame are.

    Attributes:
        words: For people; without the names of the two.
        distance: 0 for equal results, in the task's own unit.
        seen: Whether the baseline finds anything.
    """

    words: str
    distance: float
    seen: bool = True


def likeness_of(
    task: Task,
    outputs: Sequence[Outputs],
    results: Sequence[Result],
    comparison: Callable[[], Comparison],
) -> Likeness:
    """Compare the last of the results with the first, the baseline's.

    Args:
        task: What they mean.
        outputs: Of one frame.
        results: Decoded from them.
        comparison: Returns an empty one, which is used where outputs can't be drawn.
    """
    first, second = results[0], results[-1]
    if task.kind == "detection" and task.decoding is not None:
        return _objects(outputs[0], outputs[-1], task.decoding)
    if isinstance(first, Classes) and isinstance(second, Classes):
        return _classes(first, second)
    if isinstance(first, ClassMap) and isinstance(second, ClassMap):
        return _areas(first, second, foreground=task.threshold is not None)
    return _numbers(outputs[0], outputs[-1], comparison())


def _objects(expected: Outputs, seen: Outputs, how: Decoding) -> Likeness:
    """Compare objects of one class with each other, those that are the same by COCO's lowest rule."""
    baseline, engine = decode(expected, how), decode(seen, how)
    overlaps: list[float] = []
    if len(baseline) and len(engine):
        same = engine.labels[:, None] == baseline.labels[None, :]
        overlap = np.where(same, similarity_of(how)(engine, baseline), 0.0)
        chosen = assigned(overlap, THRESHOLDS[0])
        rows = np.flatnonzero(chosen >= 0)
        overlaps = overlap[rows, chosen[rows]].tolist()
    lost, invented = len(baseline) - len(overlaps), len(engine) - len(overlaps)
    every = len(overlaps) + lost + invented
    measure = "overlap" if how.rotated else "likeness" if how.keypoints else "IoU"
    words = [
        f"worst {measure} {min(overlaps):.2f}" if overlaps else "",
        f"{lost} lost" if lost else "",
        f"{invented} invented" if invented else "",
    ]
    return Likeness(
        words=", ".join(filter(None, words)),
        distance=1 - sum(overlaps) / every if every else 0.0,
        seen=len(baseline) > 0,
    )


def _classes(first: Classes, second: Classes) -> Likeness:
    same = np.atleast_2d(first.labels)[:, 0] == np.atleast_2d(second.labels)[:, 0]
    apart = 0.0
    if first.scores is not None and second.scores is not None:
        best, other = (np.atleast_2d(one)[:, 0] for one in (first.scores, second.scores))
        apart = float((np.abs(best - other) / np.maximum(np.abs(best) + np.abs(other), 1e-9)).max())
    words = "the same class" if same.all() else "another class"
    if len(same) > 1:
        words = f"the same class in {int(same.sum())} of {len(same)} places"
    return Likeness(words=words, distance=float((~same).mean()) + apart / 2)


def _areas(first: ClassMap, second: ClassMap, *, foreground: bool) -> Likeness:
    mine, other, both = (
        dict(zip(*(one.tolist() for one in np.unique(labels, return_counts=True)), strict=True))
        for labels in (first.labels, second.labels, first.labels[first.labels == second.labels])
    )
    classes = [one for one in sorted(mine.keys() | other.keys()) if one or not foreground]
    shared = [both.get(one, 0) for one in classes]
    either = [mine.get(one, 0) + other.get(one, 0) for one in classes]
    overlaps = [each / (two - each) for each, two in zip(shared, either, strict=True)]
    mean = sum(overlaps) / len(overlaps) if overlaps else 1.0
    words = f"{'mean ' * (len(overlaps) > 1)}IoU {mean:.2f}" if overlaps else "nothing found"
    seen = any(first.names) if foreground else len(first.names) > 1
    return Likeness(words=words, distance=1 - mean, seen=seen)


def _numbers(expected: Outputs, seen: Outputs, compared: Comparison) -> Likeness:
    """Compare outputs that can't be drawn: by the user's metric, else by SQNR."""
    compared.add(expected, seen)
    metric = compared.agreement_by_frame()
    if metric:
        return Likeness(words=f"agreement {metric[0]:.3f}", distance=1 - metric[0])
    sqnr = compared.sqnr_db()
    if sqnr is None:
        return Likeness(words="the same outputs", distance=0.0)
    return Likeness(words=f"SQNR {sqnr:.1f} dB", distance=10 ** (-sqnr / 20))
