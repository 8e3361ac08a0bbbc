"""How far past predictions were off, and how wide the next intervals must be for it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

from agent.core.prediction.history import ENERGY, LATENCY, MIXED, POWER, Check, PastMeasurement

COVERAGE = 0.9
_ROUNDING = 1e-9


def residuals(
    history: Sequence[PastMeasurement],
    source: str,
    runtime: str,
    *,
    mixed: bool = False,
    figure: str = LATENCY,
) -> list[tuple[str, float]]:
    """Return (run, by how much a measurement missed what a source predicted, as a logarithm).

    What of int8-mixed stays float is found after the prediction, so that a trial says a span
    for it: its misses, outside that span, are another thing than those of a point.

    Args:
        history: Of this device, in any order.
        source: What the predictions stood on.
        runtime: What executed.
        mixed: Those of int8-mixed, or those of everything else.
        figure: Latency, power or energy.
    """
    return [
        (past.utc, one.log_off)
        for past in history
        if (past.source, past.runtime, past.precision == MIXED) == (source, runtime, mixed)
        and (one := past.check(figure))
    ]


def conformal_half_width(found: Iterable[tuple[str, float]], unproven: float) -> float:
    """Return the half width, as a logarithm, that held 90 % of what was predicted.

    The candidates of one run share their errors: one model, one temperature. They count as one
    observation.

    Args:
        found: (run, how far off).
        unproven: The least that is returned while too few runs have checked a prediction.

    Source: split conformal prediction (Vovk et al., "Algorithmic Learning in a Random World",
        2005) over groups (Dunn, Wasserman and Ramdas, "Distribution-Free Prediction Sets for
        Two-Layer Hierarchical Models", JASA 118, 2023): the 0.9 quantile of the absolute
        residuals, each of n runs weighing 1 / (n + 1). With fewer than nine runs none is far
        enough out: then the farthest so far, or more if nobody knows better.
    """
    runs: dict[str, list[float]] = {}
    for run, off in found:
        runs.setdefault(run, []).append(off)
    ordered = sorted((off, len(offs)) for offs in runs.values() for off in offs)
    passed = 0.0
    for off, candidates in ordered:
        passed += 1 / candidates
        if passed >= COVERAGE * (len(runs) + 1) - _ROUNDING:
            return off
    return max([unproven, *(off for off, _ in ordered[-1:])])


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How near predictions of one figure, source and precision came.

    Attributes:
        figure: Latency, power or energy.
        count: Predictions that a measurement has checked.
        median_off: Half of them were this near, as a share of the prediction; where that was a
            span, of its nearer end, and 0 inside.
        p90_off: Nine of ten were.
        inside: Share of the measurements that the 90 % intervals held; None where none was told.
    """

    figure: str
    source: str
    precision: str
    count: int
    median_off: float
    p90_off: float
    inside: float | None


def accuracy(history: Sequence[PastMeasurement]) -> tuple[Accuracy, ...]:
    """Return how near predictions came, by figure, source and precision, and over all of each."""
    return tuple(one for figure in (LATENCY, POWER, ENERGY) for one in _of_figure(history, figure))


def _of_figure(history: Sequence[PastMeasurement], figure: str) -> list[Accuracy]:
    groups: dict[tuple[str, str], list[Check]] = {}
    for past in history:
        if one := past.check(figure):
            groups.setdefault((past.source, past.precision), []).append(one)
    told = [_accuracy(figure, *key, group) for key, group in sorted(groups.items())]
    everything = [one for group in groups.values() for one in group]
    return [*told, _accuracy(figure, "all", "all", everything)] if told else []


def _accuracy(figure: str, source: str, precision: str, checked: Sequence[Check]) -> Accuracy:
    off = sorted(abs(one.off) for one in checked)
    held = [one.inside for one in checked if one.inside is not None]
    return Accuracy(
        figure=figure,
        source=source,
        precision=precision,
        count=len(off),
        median_off=median(off),
        p90_off=off[ceil(COVERAGE * len(off)) - 1],
        inside=sum(held) / len(held) if held else None,
    )
