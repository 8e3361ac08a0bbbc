"""A model over the devices that have it: by board and precision, and which devices stand out.

Source: B. Iglewicz and D. Hoaglin, How to Detect and Handle Outliers (1993): a modified z-score,
from the median absolute deviation, above 3.5 is an outlier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from agent.core.fleet.devices import ReportRow

_LEAST = 3  # devices of a group that may win, 5 for outliers
_LEAST_FOR_OUTLIERS = 5
_Z = 3.5
_MAD_TO_SIGMA = 1.4826  # of a normal distribution
_NOISE = 0.10  # of the median: what differs by less is none, however alike the others are


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The devices of one board that chose one precision; medians, None where none has the figure.

    Attributes:
        wins: What its medians are the best of on its board: "latency", "energy".
    """

    board: str
    precision: str
    devices: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    power_w: float | None
    energy_j: float | None
    agreement: float | None
    lowest_agreement: float | None
    wins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """A device that is slower than its group: its p50 and the group's median, ms."""

    row: ReportRow
    median_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Groups by board, the fastest first; outliers by their ratio, the slowest first."""

    groups: tuple[Group, ...]
    outliers: tuple[Outlier, ...]


def compare_devices(rows: Sequence[ReportRow]) -> Comparison:
    """Return a model's groups and outliers, from the newest report of each device."""
    members: dict[tuple[str, str], list[ReportRow]] = {}
    for row in rows:
        if row.precision:
            members.setdefault((row.board, row.precision), []).append(row)
    groups = [_group(board, precision, its) for (board, precision), its in members.items()]
    outliers = [one for its in members.values() for one in _outliers(its)]
    return Comparison(
        groups=tuple(
            _with_wins(one, groups)
            for one in sorted(groups, key=lambda g: (g.board, g.latency_p50_ms or float("inf")))
        ),
        outliers=tuple(
            sorted(outliers, key=lambda one: -(one.row.latency_p50_ms or 0) / one.median_ms)
        ),
    )


def _group(board: str, precision: str, rows: Sequence[ReportRow]) -> Group:
    agreements = _known([one.agreement for one in rows])
    return Group(
        board=board,
        precision=precision,
        devices=len(rows),
        latency_p50_ms=_median([one.latency_p50_ms for one in rows]),
        latency_p99_ms=_median([one.latency_p99_ms for one in rows]),
        power_w=_median([one.power_w for one in rows]),
        energy_j=_median([one.energy_j for one in rows]),
        agreement=_median(agreements),
        lowest_agreement=min(agreements, default=None),
    )


def _with_wins(group: Group, groups: Sequence[Group]) -> Group:
    """Return the group with what it wins; there must be another one on its board."""
    rivals = [one for one in groups if one.board == group.board and one.devices >= _LEAST]
    if group not in rivals or len(rivals) == 1:
        return group
    wins = [
        name
        for name, figure in (("latency", "latency_p50_ms"), ("energy", "energy_j"))
        if getattr(group, figure) is not None
        and getattr(group, figure) == min(_known([getattr(one, figure) for one in rivals]))
    ]
    return replace(group, wins=tuple(wins))


def _outliers(rows: Sequence[ReportRow]) -> list[Outlier]:
    latencies = _known([one.latency_p50_ms for one in rows])
    if len(latencies) < _LEAST_FOR_OUTLIERS:
        return []
    middle = median(latencies)
    spread = _MAD_TO_SIGMA * median([abs(one - middle) for one in latencies])
    limit = middle + max(_Z * spread, _NOISE * middle)
    return [
        Outlier(row=one, median_ms=middle)
        for one in rows
        if one.latency_p50_ms is not None and one.latency_p50_ms > limit and middle > 0
    ]


def _median(values: Sequence[float | None]) -> float | None:
    known = _known(values)
    return median(known) if known else None


def _known(values: Sequence[float | None]) -> list[float]:
    return [one for one in values if one is not None]
