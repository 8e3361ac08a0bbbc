"""Errors of past predictions, and the width of the next intervals that follows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil
from statistics import median

from agent.core.prediction.history import ENERGY, LATENCY, POWER, Check, PastMeasurement
from agent.core.records import MIXED

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
    """Return (run, absolute error of a source's prediction as a logarithm).

    Which layers of int8-mixed stay float is found after the prediction, so that a trial predicts
    a span for it: errors outside a span are not comparable with those of a single value.

    Args:
        history: Of this device, in any order.
        source: Source of the predictions.
        runtime: The runtime that executed.
        mixed: True for int8-mixed, False for everything else.
        figure: Latency, power or energy.
    """
    return [
        (past.utc, one.log_off)
        for past in history
        if (past.source, past.runtime, past.precision == MIXED) == (source, runtime, mixed)
        and (one := past.check(figure))
    ]


def conformal_half_width(found: Iterable[tuple[str, float]], unproven: float) -> float:
    """Return the half width, as a logarithm, that covers 90 % of the errors.

    The candidates of one run share their errors (one model, one temperature), so they count as
    one observation.

    Args:
        found: (run, error) as of `residuals`.
        unproven: The least half width while too few runs have checked a prediction.

    Source: split conformal prediction (Vovk et al., "Algorithmic Learning in a Random World",
        2005) over groups (Dunn, Wasserman and Ramdas, "Distribution-Free Prediction Sets for
        Two-Layer Hierarchical Models", JASA 118, 2023): the 0.9 quantile of the absolute
        residuals, each of n runs weighing 1 / (n + 1). With fewer than nine runs none is large
        enough: then the largest so far, at least `unproven`.
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
    """Accuracy of the predictions of one figure, source and precision.

    Attributes:
        figure: Latency, power or energy.
        count: Predictions that were followed by a measurement.
        median_off: Median absolute error, as a share of the prediction; of a predicted span, 0
            inside and a share of its nearer end outside.
        p90_off: 90th percentile of the absolute error, likewise.
        inside: Share of the measurements inside the 90 % intervals; None without intervals.
    """

    figure: str
    source: str
    precision: str
    count: int
    median_off: float
    p90_off: float
    inside: float | None


def accuracy(history: Sequence[PastMeasurement]) -> tuple[Accuracy, ...]:
    """Return the accuracy by figure, source and precision, and by figure over all of them."""
    found: list[Accuracy] = []
    for figure in (LATENCY, POWER, ENERGY):
        groups: dict[tuple[str, str], list[Check]] = {}
        for past in history:
            if one := past.check(figure):
                groups.setdefault((past.source, past.precision), []).append(one)
        found += [_accuracy(figure, *key, group) for key, group in sorted(groups.items())]
        if groups:
            found.append(_accuracy(figure, "all", "all", list(chain(*groups.values()))))
    return tuple(found)


def _accuracy(figure: str, source: str, precision: str, checked: Sequence[Check]) -> Accuracy:
    off = sorted(abs(one.off) for one in checked)
    inside = [one.inside for one in checked if one.inside is not None]
    return Accuracy(
        figure=figure,
        source=source,
        precision=precision,
        count=len(off),
        median_off=median(off),
        p90_off=off[ceil(COVERAGE * len(off)) - 1],
        inside=sum(inside) / len(inside) if inside else None,
    )
