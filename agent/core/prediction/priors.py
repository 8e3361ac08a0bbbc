"""What other devices measured of a model, from a CSV that a fleet or a profiler wrote."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from agent.core.frames.profile import ProfileRow


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFigure:
    """One precision, batch and power mode of the model, as measured elsewhere.

    Attributes:
        power_mode: "" where the rows state none.
        latency_ms: Median wall time of one inference.
        power_w: Median power; None where no row states any.
        count: Rows behind them.
        origin: Name of the file.
    """

    precision: str
    batch: int
    power_mode: str
    latency_ms: float
    power_w: float | None
    count: int
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The figures of one model on devices like this one."""

    figures: tuple[FleetFigure, ...] = ()


def figures(
    rows: Iterable[ProfileRow],
    names: Collection[str],
    here: Mapping[str, Collection[str]],
    origin: str,
) -> tuple[FleetFigure, ...]:
    """Return the figures of a model on devices like this one.

    A row counts if it names the model, a precision and a latency. What it states beside them
    (runtime, board) must be this device's; what it leaves out is not asked about.

    Args:
        rows: Of the CSV.
        names: What the model may be called there: its name, its sha256, its file.
        here: By column (runtime, board), what this device may be called.
        origin: Name of the file, for people.
    """
    known = {name.lower() for name in names if name}
    like = {column: {name.lower() for name in names} for column, names in here.items()}
    groups: dict[tuple[str, int, str], list[ProfileRow]] = {}
    for row in rows:
        named = {"runtime": row.runtime, "board": row.board}
        if (
            row.latency_ms is not None
            and row.precision
            and row.model.lower() in known
            and all(not name or name.lower() in like[column] for column, name in named.items())
        ):
            key = row.precision, row.batch or 1, row.power_mode
            groups.setdefault(key, []).append(row)
    return tuple(
        FleetFigure(
            precision=precision,
            batch=batch,
            power_mode=power_mode,
            latency_ms=median(row.latency_ms for row in group if row.latency_ms is not None),
            power_w=median(powers)
            if (powers := [row.power_w for row in group if row.power_w is not None])
            else None,
            count=len(group),
            origin=origin,
        )
        for (precision, batch, power_mode), group in sorted(groups.items())
    )


def in_mode(figures_: Iterable[FleetFigure], power_mode: str) -> tuple[FleetFigure, ...]:
    """Return the figures that may apply in a power mode, those that name it first."""
    mode = power_mode.lower()
    fit = [one for one in figures_ if one.power_mode.lower() in {"", mode}]
    return tuple(sorted(fit, key=lambda one: not one.power_mode))
