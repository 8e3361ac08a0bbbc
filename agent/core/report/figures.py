"""The figures of a candidate: page, terminal and the list of unknown ones derive from this table.

Candidates are as in report.json; keys that an earlier version did not write may be absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
_NAME = 24  # characters of a metric's name
_ACCURACIES = {"accuracy": "", "accuracy_ap50_95": "ap50_95 "}  # in words
_OF_LABELS = {before + key for key in _ACCURACIES for before in ("", "baseline_")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    r"""One figure, with the places of its value, interval and reason: keys from the candidate on.

    Attributes:
        name: In sentences.
        value: Where it is.
        unit: After the value, unless the title of the column has it.
        scale: Of `unit` in the unit of report.json.
        text: How the value is formatted.
        write: Formats it instead; returns "" where it is unknown. Lines are separated by "\n".
        null: What is shown for null; a dash if empty.
        reason: Why it is null.
        interval: Its 95 % interval.
        interval_reason: Why there is none.
        page: Title of its column on the page; empty if it has none.
        front: Whether it is in the first table of the page.
        terminal: Title of its column in a terminal; empty if it has none.
        optional: True if its column is left out where no candidate has it.
        rank: A terminal that is too narrow drops the columns of the lowest rank first.
    """

    name: str
    value: str
    unit: str = ""
    scale: float = 1.0
    text: str = "{:.2f}"
    write: Callable[[Row], str] | None = None
    null: str = ""
    reason: str = ""
    interval: str = ""
    interval_reason: str = ""
    page: str = ""
    front: bool = False
    terminal: str = ""
    optional: bool = False
    rank: int = 0

    def cell(self, candidate: Row, title: str) -> str:
        """Return the value as text under a title; empty if there is none."""
        if self.write:
            return self.write(candidate)
        value = at(candidate, self.value)
        if value is None:
            return self.null if at(candidate, self.value.rpartition(".")[0]) else ""
        unit = "" if self.unit in title else f" {self.unit}"
        return self.text.format(self.scale * value) + unit

    def span(self, candidate: Row) -> str:
        """Return its 95 % interval in the unit of the column; empty if there is none."""
        ends = at(candidate, self.interval)
        return "–".join(f"{self.scale * end:.3g}" for end in ends) if ends else ""


def shown_figures(figures: Sequence[Figure], place: str, candidates: Sequence[Row]) -> list[Figure]:
    """Return the figures that have a column.

    Args:
        figures: In their order.
        place: "page" or "terminal".
        candidates: Of the table.
    """
    titles = [(figure, getattr(figure, place)) for figure in figures]
    return [
        figure
        for figure, title in titles
        if title and (not figure.optional or any(figure.cell(one, title) for one in candidates))
    ]


def at(candidate: Row, place: str) -> Any:
    """Return what is at a place such as "measured.power_w.mean"; None where nothing is."""
    found: Any = candidate
    for key in place.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _expected(candidate: Row) -> str:
    """Return the predicted p50 with its interval, marked if the measured one is outside."""
    value = at(candidate, "predicted.latency_p50_ms")
    span = at(candidate, "predicted.latency_p50_ms_ci90")
    if value is None or not span:
        return "" if value is None else f"{value:.2f}"
    missed = "!" if at(candidate, "predicted.inside") is False else ""
    return f"{value:.2f} [{span[0]:.3g}, {span[1]:.3g}]{missed}"


def _task(candidate: Row) -> str:
    metrics = at(candidate, "fidelity.task") or {}
    named = [(name, value) for name, value in metrics.items() if name not in _OF_LABELS]
    return "\n".join(f"{_short(name)} {value:.3f}" for name, value in named)


def _short(name: str) -> str:
    """Return the end of the name of a user's metric, so that a column stays one."""
    return name if len(name) <= _NAME else f"…{name[-_NAME:]}"


def _accuracy(candidate: Row) -> str:
    """Return the accuracy against labels, of the candidate and of FP32."""
    metrics = at(candidate, "fidelity.task") or {}
    return "\n".join(
        f"{words}{metrics[key]:.3f} (FP32 {metrics[f'baseline_{key}']:.3f})"
        for key, words in _ACCURACIES.items()
        if key in metrics
    )


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def _latency(table: str, percentile: str, terminal: str = "", rank: int = 0) -> Figure:
    known = percentile != "p90"
    return Figure(
        name=percentile,
        value=f"{table}.latency_ms.{percentile}",
        unit="ms",
        write=lambda candidate: _ms(at(candidate, f"{table}.latency_ms.{percentile}")),
        interval=f"{table}.latency_ms.ci95_{percentile}",
        interval_reason=f"{table}.latency_ms.ci95_reason" if known else "",
        page=f"{percentile} ms",
        front=known,
        terminal=terminal,
        rank=rank,
    )


def _throughput(table: str, rank: int = 0) -> Figure:
    return Figure(
        name="throughput", value=f"{table}.throughput_fps", unit="FPS", text="{:.1f}",
        page="FPS", terminal="FPS", rank=rank,
    )  # fmt: skip


def _power(table: str, rank: int = 0) -> Figure:
    return Figure(
        name="power", value=f"{table}.power_w.mean", unit="W", reason=f"{table}.power_reason",
        interval=f"{table}.power_w.ci95", page="power", terminal="power", rank=rank,
    )  # fmt: skip


def _energy(table: str, terminal: str) -> Figure:
    return Figure(
        name="energy", value=f"{table}.energy_j", unit="mJ", scale=1e3, text="{:.1f}",
        reason=f"{table}.energy_reason", interval=f"{table}.energy_j_ci95", page="energy", front=True,
        terminal=terminal,
    )  # fmt: skip


_RATED = "measured.at_rate"
FIGURES = (
    Figure(
        name="share of the compute in INT8", value="int8_macs_fraction", text="{:.0%}",
        page="INT8 share", terminal="INT8", rank=4,
    ),
    _latency("measured", "p50", "p50 ms", rank=9),
    Figure(
        name="predicted latency", value="predicted.latency_p50_ms", write=_expected,
        reason="predicted.basis", terminal="predicted", rank=1,
    ),
    _latency("measured", "p90"),
    _latency("measured", "p99", "p99 ms", rank=7),
    _throughput("measured", rank=5),
    _power("measured", rank=6),
    _energy("measured", terminal=""),
    Figure(
        name="memory", value="measured.memory_mb", unit="MB", text="{:.0f}",
        reason="measured.memory_reason", page="memory", front=True, terminal="MB", rank=3,
    ),
    Figure(name="times of layers", value="layer_times.inference_us", reason="layer_times_reason"),
    Figure(name="throttling", value="measured.throttled", reason="measured.throttled_reason"),
    Figure(
        name="SQNR", value="fidelity.sqnr_db", unit="dB", text="{:.1f}", null="exact",
        reason="fidelity.sqnr_reason", interval="fidelity.sqnr_db_ci95",
        page="SQNR", front=True, terminal="SQNR dB", rank=8,
    ),
    Figure(
        name="agreement with FP32", value="fidelity.agreement", write=_task,
        reason="fidelity.agreement_reason", interval="fidelity.agreement_ci95",
        page="task", front=True, terminal="task", rank=2,
    ),
    Figure(
        name="accuracy", value="fidelity.task.accuracy", write=_accuracy,
        reason="fidelity.accuracy_reason", interval="fidelity.accuracy_ci95",
        page="accuracy", front=True, terminal="accuracy", optional=True, rank=1,
    ),
)  # fmt: skip
AT_RATE_FIGURES = (
    _latency(_RATED, "p50", "p50 ms"),
    _latency(_RATED, "p90"),
    _latency(_RATED, "p99", "p99 ms"),
    _throughput(_RATED),
    Figure(
        name="dropped frames", value=f"{_RATED}.dropped", text="{:.1%}", page="dropped",
        terminal="dropped",
    ),
    _power(_RATED),
    _energy(_RATED, terminal="energy"),
    Figure(
        name="energy above idle", value=f"{_RATED}.energy_net_j", unit="mJ", scale=1e3,
        text="{:.1f}", page="above idle",
    ),
)  # fmt: skip
