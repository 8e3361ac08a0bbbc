"""The plots of the report page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from agent.core.choice.limits import P99, SQNR
from agent.core.measurement.power_trace import AT_RATE
from agent.core.records import Measured, PowerTrace
from agent.core.report.candidates import CandidateReport
from agent.core.report.document import Report
from agent.core.report.wording import escape_unprintable
from agent.page.chart import Axis, Chart
from agent.page.rows import Look

_OUTPUTS = 8  # a plot shows no more, the worst ones
_NAME = 36  # characters of an output's name
_EXACT_DB = 60.0  # where a plot puts outputs identical to the baseline
_POINTS = 96  # of a curve
_WIDE = 12.0  # times between the ends of an axis of latency from which it is logarithmic
_BAR_PX, _ROW_PX = 9, 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A chart with its words.

    Attributes:
        x, y: Titles of the axes.
        names: Of the candidates in it, for the legend.
    """

    title: str
    words: str
    x: str
    y: str
    names: tuple[str, ...]
    chart: Markup


def plots(
    report: Report,
    candidates: Sequence[CandidateReport],
    looks: Mapping[str, Look],
    sketches_ms: Mapping[str, Sequence[float]],
    traces: Sequence[PowerTrace],
) -> list[Plot]:
    """Return every plot that has something to draw.

    Args:
        report: Its limits and Pareto front are drawn.
        candidates: In the order of the page.
        looks: By id of a candidate.
        sketches_ms: As of `page.render.render`.
        traces: As of `page.render.render`.
    """
    measured = [one for one in candidates if one.measured]
    drawn = (
        _latency(measured, looks, sketches_ms, report.limits),
        _pareto(measured, looks, report),
        _power(measured, looks, traces),
        _fidelity(measured, looks, report.limits),
        _predicted(measured, looks),
    )
    return [one for one in drawn if one]


def _latency(
    measured: Sequence[CandidateReport],
    looks: Mapping[str, Look],
    sketches_ms: Mapping[str, Sequence[float]],
    limits: Mapping[str, float],
) -> Plot | None:
    shown = [(one.id, one.measured, sorted(sketches_ms[one.id])) for one in measured
             if one.measured and sketches_ms.get(one.id)]  # fmt: skip
    if not shown:
        return None
    chart = Chart(
        _latencies([(times_ms[0], found.latency_ms.p99) for _, found, times_ms in shown],
                   "latency, ms"),
        Axis(low=0.0, high=1.0, title="share of inferences"),
    )  # fmt: skip
    if limits.get(P99.key):
        chart.upright(limits[P99.key], "limit")
    for name, _, times_ms in reversed(shown):  # the first above the others
        count = len(times_ms)
        kept = sorted({*range(0, count, -(-count // _POINTS)), count - 1})
        points = [(times_ms[index], (index + 1) / count) for index in kept]
        chart.line([(times_ms[0], 0.0), *points], looks[name].css)
    return _plot(
        chart,
        "Latency",
        "Share of inferences that took at most this long; steep is steady."
        + (" The dashed line is the limit of p99." if limits.get(P99.key) else ""),
        [name for name, _, _ in shown],
    )


def _latencies(spans_ms: Sequence[tuple[float, float]], title: str) -> Axis:
    """Return an axis from 0, or a logarithmic one where that would squeeze most values."""
    low, high = min(low for low, _ in spans_ms), max(high for _, high in spans_ms)
    if low > 0 and high / low > _WIDE:
        return Axis(low=low / 1.1, high=high * 1.1, title=f"{title}, logarithmic", log=True)
    return Axis(low=0.0, high=1.1 * high or 1.0, title=title)


def _pareto(
    measured: Sequence[CandidateReport], looks: Mapping[str, Look], report: Report
) -> Plot | None:
    shown = [(one, one.measured.latency_ms, one.fidelity) for one in measured
             if one.measured and one.fidelity]  # fmt: skip
    if not shown:
        return None
    limit = report.limits.get(SQNR.key, 0.0)
    ys = [_EXACT_DB if fidelity.sqnr_db is None else fidelity.sqnr_db for _, _, fidelity in shown]
    chart = Chart(
        Axis(low=0.0, high=1.15 * max((latency.ci95_p50 or (0.0, latency.p50))[1]
                                      for _, latency, _ in shown) or 1.0, title="p50 latency, ms"),
        Axis(low=min(0.0, *ys), high=1.08 * max(*ys, limit, 1.0),
             title=f"worst channels, dB ({_EXACT_DB:g} = exact)"),
    )  # fmt: skip
    if limit:
        chart.level(limit, "limit")
    for (one, latency, fidelity), y in reversed(list(zip(shown, ys, strict=True))):
        look = looks[one.id]
        front = "" if one.id in report.choice.pareto else " hollow"
        chart.point((latency.p50, y), (latency.ci95_p50, fidelity.sqnr_db_ci95), look.shape,
                    f"{look.css}{front}{_large(one)}")  # fmt: skip
    return _plot(
        chart,
        "Speed against fidelity",
        "Up and to the left is better. Filled markers are on the Pareto front, the large one is "
        "chosen; bars are the 95 % intervals."
        + (" The dashed line is the limit of SQNR." if limit else ""),
        [one.id for one, _, _ in shown],
    )


def _power(
    measured: Sequence[CandidateReport], looks: Mapping[str, Look], traces: Sequence[PowerTrace]
) -> Plot | None:
    """Draw the power of a rail, with the windows of each candidate in its colour."""
    shown = {one.id: one.measured for one in measured if one.measured and _rail(one)}
    drawn = [trace for trace in traces if trace.points]
    if not shown or not drawn:
        return None
    windows = [window for trace in drawn for window in trace.windows]
    origin_s = min(window.begin_s for window in windows)
    end_s = max(window.end_s for window in windows)
    rail = next(_rail(one) for one in measured if one.id in shown)
    chart = Chart(
        Axis(low=0.0, high=max(end_s - origin_s, 1e-3), title="time, s"),
        Axis(low=0.0, high=1.1 * max(watts for trace in drawn for _, watts in trace.points) or 1.0,
             title=f"{_short(rail)}, W"),
    )  # fmt: skip
    for window in windows:
        css = looks[window.candidate].css if window.candidate in looks else "rest"
        paced = " paced" if window.kind == AT_RATE else ""
        chart.band(window.begin_s - origin_s, window.end_s - origin_s, f"{css}{paced}")
    for trace in drawn:
        chart.line([(at_s - origin_s, watts) for at_s, watts in trace.points], "trace")
    for window in windows:
        mean_w = _mean_w(shown.get(window.candidate), window.kind)
        if mean_w is not None:
            ends = window.begin_s - origin_s, window.end_s - origin_s
            chart.level(mean_w, f"mean {looks[window.candidate].css}", ends)
    return _plot(
        chart,
        "Power",
        "Of the rail, all along. The windows of a candidate have its colour, paler at the frame "
        "rate, with its mean as a line; grey is the machine at rest.",
        [name for name in looks if any(window.candidate == name for window in windows)],
    )


def _rail(one: CandidateReport) -> str:
    return one.measured.power_w.rail if one.measured and one.measured.power_w else ""


def _mean_w(measured: Measured | None, kind: str) -> float | None:
    if measured is None:
        return None
    used = measured.at_rate if kind == AT_RATE else measured
    return used.power_w.mean if used and used.power_w else None


def _fidelity(
    measured: Sequence[CandidateReport], looks: Mapping[str, Look], limits: Mapping[str, float]
) -> Plot | None:
    shown = [(one.id, one.fidelity.per_output_sqnr_db) for one in measured
             if one.fidelity and one.fidelity.sqnr_db is not None]  # fmt: skip
    worst: dict[str, float] = {}
    for _, values_db in shown:
        for name, value in values_db.items():
            worst[name] = min(worst.get(name, _EXACT_DB), _EXACT_DB if value is None else value)
    if not worst:
        return None
    outputs = sorted(worst, key=lambda name: worst[name])[:_OUTPUTS]
    limit = limits.get(SQNR.key, 0.0)
    group_px = _ROW_PX + _BAR_PX * len(shown) + 8
    chart = Chart(
        Axis(low=0.0, high=_EXACT_DB * 1.02, title=f"SQNR, dB ({_EXACT_DB:g} = exact or more)"),
        Axis(low=0.0, high=1.0, title=""),
        group_px * len(outputs),
    )
    for row, output in enumerate(outputs):
        top_px = row * group_px
        chart.text(top_px + _ROW_PX - 5, _short(output))
        for number, (name, values_db) in enumerate(shown):
            value = values_db.get(output)
            chart.bar(top_px + _ROW_PX + _BAR_PX * number, _EXACT_DB if value is None else value,
                      looks[name].css, _BAR_PX - 2)  # fmt: skip
    if limit:
        chart.upright(limit, "limit")
    some = (
        f" The worst {len(outputs)} of {len(worst)} outputs." if len(outputs) < len(worst) else ""
    )
    return _plot(
        chart,
        "Fidelity of every output",
        f"Signal-to-quantization-noise ratio on frames that calibrated nothing.{some}"
        + (" The dashed line is the limit." if limit else ""),
        [name for name, _ in shown],
        y_ticks=False,
    )


def _predicted(measured: Sequence[CandidateReport], looks: Mapping[str, Look]) -> Plot | None:
    shown = [(one, one.predicted.latency_p50_ms, one.measured.latency_ms.p50) for one in measured
             if one.measured and one.predicted.latency_p50_ms is not None]  # fmt: skip
    if not shown:
        return None
    ends = [max(x, y, (one.predicted.latency_p50_ms_ci90 or (0.0, 0.0))[1]) for one, x, y in shown]
    high = 1.1 * max(ends) or 1.0
    chart = Chart(
        Axis(low=0.0, high=high, title="predicted p50, ms"),
        Axis(low=0.0, high=high, title="measured p50, ms"),
    )
    chart.line([(0.0, 0.0), (high, high)], "exact")
    for one, x, y in reversed(shown):
        span = one.predicted.latency_p50_ms_ci90
        look = looks[one.id]
        chart.point((x, y), (span, None), look.shape, look.css + _large(one))
    return _plot(
        chart,
        "Predicted before building, against measured",
        "On the line the prediction was exact. Bars are its 90 % interval.",
        [one.id for one, _, _ in shown],
    )


def _plot(
    chart: Chart, title: str, words: str, names: Sequence[str], *, y_ticks: bool = True
) -> Plot:
    label = f"{title}: {words} Shown: {', '.join(map(_short, names))}."
    return Plot(title=title, words=words, x=chart.x.title, y=chart.y.title, names=tuple(names),
                chart=chart.drawn(label, y_ticks=y_ticks))  # fmt: skip


def _large(one: CandidateReport) -> str:
    return " large" if one.verdict == "chosen" else ""


def _short(name: str) -> str:
    """Keep a name's end, by which the outputs of one graph differ."""
    name = escape_unprintable(name)
    return name if len(name) <= _NAME else f"…{name[-_NAME:]}"
