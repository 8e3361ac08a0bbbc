"""The plots of the report page, as inline SVG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from agent.core.choice.limits import P99, SQNR
from agent.core.measurement.power_trace import AT_RATE
from agent.core.records import Measured, PowerTrace
from agent.core.report.candidates import CandidateReport
from agent.core.report.document import Report
from agent.core.report.wording import escape_unprintable

_LINE, _LIMIT = "#999999", "#D55E00"
_OUTPUTS = 8  # a plot shows no more, the worst ones
_NAME = 24  # characters of an output's name
_EXACT_DB = 60.0  # where a plot puts outputs identical to the baseline


def plots(
    report: Report, sketches_ms: Mapping[str, Sequence[float]], traces: Sequence[PowerTrace]
) -> list[tuple[str, str, str]]:
    """Return title, words and SVG of every plot that has something to draw.

    Args as of `page.render.render`.
    """
    measured = [one for one in report.candidates if one.measured]
    with warnings.catch_warnings(), mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": report.run_id, "font.size": 9, "axes.grid": True,
         "text.parse_math": False,  # a dollar sign in a name is a dollar sign
         "grid.alpha": 0.25, "axes.spines.top": False, "axes.spines.right": False,
         "font.family": "sans-serif", "figure.facecolor": "none", "axes.facecolor": "none"}
    ):  # fmt: skip
        # the page's own fonts draw the texts, so what matplotlib's lack does not matter
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        drawn = [
            ("Latency", "Share of inferences that took at most this long; steep is steady.",
             _latency(measured, sketches_ms, report.limits)),
            ("Speed against fidelity",
             "Up and to the left is better; dots are on the Pareto front, the large one is chosen. "
             "Bars are the 95 % intervals.",
             _pareto(report)),
            ("Power", "What the rail carried all along. A candidate's windows have its colour, paler "
             "at the frame rate, with its mean as a line.", _power(measured, traces)),
            ("Fidelity of every output", "Signal-to-quantization-noise ratio on held-out frames.",
             _fidelity(measured, report.limits)),
            ("Predicted before building, against measured",
             "On the line the prediction was exact. Bars are its 90 % interval.",
             _predicted(report.candidates)),
        ]  # fmt: skip
    return [(title, words, plot) for title, words, plot in drawn if plot]


def _latency(
    measured: Sequence[CandidateReport],
    sketches_ms: Mapping[str, Sequence[float]],
    limits: Mapping[str, float],
) -> Markup | None:
    shown = [one for one in measured if sketches_ms.get(one.id)]
    if not shown:
        return None
    figure, axes = _figure(len(shown))
    for one in shown:
        times = sorted(sketches_ms[one.id])
        shares = [(i + 1) / len(times) for i in range(len(times))]
        chosen = one.verdict == "chosen"
        axes.plot(times, shares, lw=2.4 if chosen else 1.3, label=escape_unprintable(one.id),
                  zorder=3 if chosen else 2)  # fmt: skip
    limit = limits.get(P99.key)
    if limit:
        axes.axvline(limit, color=_LIMIT, ls="--", lw=1, label="p99 limit")
    longest = max(one.measured.latency_ms.p99 for one in shown if one.measured)
    axes.set_xlim(left=0, right=1.15 * longest)
    axes.set(xlabel="latency, ms", ylabel="share of inferences", ylim=(0, 1.02))
    axes.legend(frameon=False, loc="lower right")
    return _svg(figure)


def _pareto(report: Report) -> Markup | None:
    shown = [
        (one, one.measured, one.fidelity)
        for one in report.candidates
        if one.measured and one.fidelity
    ]
    if not shown:
        return None
    figure, axes = _figure()
    for one, measured, fidelity in shown:
        p50 = measured.latency_ms.p50
        low, high = measured.latency_ms.ci95_p50 or (p50, p50)
        y = _EXACT_DB if fidelity.sqnr_db is None else fidelity.sqnr_db
        below, above = fidelity.sqnr_db_ci95 or (y, y)
        _point(axes, one, p50, y, xerr=[[p50 - low], [high - p50]],
               yerr=[[max(y - below, 0)], [max(above - y, 0)]],
               fmt="o" if one.id in report.choice.pareto else "x", capsize=2)  # fmt: skip
    if report.limits.get(SQNR.key):
        axes.axhline(report.limits[SQNR.key], color=_LIMIT, ls="--", lw=1)
    axes.margins(x=0.2, y=0.15)
    axes.set_xlim(left=0)
    axes.set(xlabel="p50 latency, ms", ylabel=f"worst channels, dB ({_EXACT_DB:g} = exact)")
    return _svg(figure, legend_columns=min(3, len(shown)))


def _power(measured: Sequence[CandidateReport], traces: Sequence[PowerTrace]) -> Markup | None:
    """Draw the trace of power, each candidate's windows in a colour of its own."""
    shown = {one.id: one.measured for one in measured if one.measured and _rail(one)}
    drawn = [trace for trace in traces if trace.points]
    if not shown or not drawn:
        return None
    figure, axes = _figure()
    origin_s = drawn[0].windows[0].begin_s
    colours = {name: f"C{number % 10}" for number, name in enumerate(shown)}
    named: set[str] = set()
    for trace in drawn:
        times_s, watts = zip(*trace.points, strict=True)
        axes.plot([t - origin_s for t in times_s], watts, color=_LINE, lw=0.8, zorder=3)
        for window in trace.windows:
            name = window.candidate or "at rest"
            ends_s = window.begin_s - origin_s, window.end_s - origin_s
            axes.axvspan(*ends_s, color=colours.get(window.candidate, _LINE), lw=0,
                         alpha=0.18 if window.kind == AT_RATE else 0.35,
                         label=None if name in named else escape_unprintable(name))  # fmt: skip
            named.add(name)
            mean_w = _mean_w(shown.get(window.candidate), window.kind)
            if mean_w is not None:
                axes.hlines(mean_w, *ends_s, color=colours[window.candidate], lw=1.5, zorder=4)
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    rail = next(_rail(one) for one in measured if one.id in shown)
    axes.set(xlabel="time, s", ylabel=f"{_short(escape_unprintable(rail))}, W")
    return _svg(figure, legend_columns=min(4, len(named)))


def _rail(one: CandidateReport) -> str:
    return one.measured.power_w.rail if one.measured and one.measured.power_w else ""


def _mean_w(measured: Measured | None, kind: str) -> float | None:
    if measured is None:
        return None
    used = measured.at_rate if kind == AT_RATE else measured
    return used.power_w.mean if used and used.power_w else None


def _fidelity(measured: Sequence[CandidateReport], limits: Mapping[str, float]) -> Markup | None:
    shown = [one for one in measured if one.fidelity and one.fidelity.sqnr_db is not None]
    if not shown:
        return None
    worst: dict[str, float] = {}
    for one in shown:
        for name, value in (one.fidelity.per_output_sqnr_db if one.fidelity else {}).items():
            worst[name] = min(worst.get(name, _EXACT_DB), _EXACT_DB if value is None else value)
    outputs = sorted(worst, key=lambda name: worst[name])[:_OUTPUTS]
    figure, axes = _figure(len(outputs) * len(shown) // 2)
    width = 0.8 / len(shown)
    for number, one in enumerate(shown):
        values = one.fidelity.per_output_sqnr_db if one.fidelity else {}
        places = [i + (number - (len(shown) - 1) / 2) * width for i in range(len(outputs))]
        lengths = [_EXACT_DB if (v := values.get(name)) is None else v for name in outputs]
        axes.barh(places, lengths, height=width * 0.92, label=escape_unprintable(one.id))
    if limits.get(SQNR.key):
        axes.axvline(limits[SQNR.key], color=_LIMIT, ls="--", lw=1, label="limit")
    axes.set_yticks(range(len(outputs)), [_short(escape_unprintable(name)) for name in outputs])
    axes.invert_yaxis()
    left_out = f"the worst {len(outputs)} of {len(worst)} outputs"
    axes.set(xlabel="SQNR, dB", ylabel=left_out if len(outputs) < len(worst) else "output")
    return _svg(figure, legend_columns=min(3, len(shown) + 1))


def _predicted(candidates: Sequence[CandidateReport]) -> Markup | None:
    shown = [
        (one, one.predicted.latency_p50_ms, one.measured.latency_ms.p50)
        for one in candidates
        if one.measured and one.predicted.latency_p50_ms is not None
    ]
    if not shown:
        return None
    figure, axes = _figure()
    for one, x, y in shown:
        low, high = one.predicted.latency_p50_ms_ci90 or (x, x)
        _point(axes, one, x, y, xerr=[[x - low], [high - x]], fmt="o", capsize=3, elinewidth=1)
    largest = max(max(x, y) for _, x, y in shown)
    axes.plot([0, 1.2 * largest], [0, 1.2 * largest], color=_LINE, lw=1)
    axes.set(xlim=(0, 1.3 * largest), ylim=(0, 1.2 * largest))
    axes.set(xlabel="predicted p50, ms", ylabel="measured p50, ms")
    return _svg(figure, legend_columns=min(3, len(shown)))


def _point(axes: Any, one: CandidateReport, x: float, y: float, **style: Any) -> None:
    """Draw a candidate with the bars of its intervals; the chosen one is larger."""
    size = 10 if one.verdict == "chosen" else 6
    axes.errorbar(x, y, ms=size, label=escape_unprintable(one.id), **style)


def _short(name: str) -> str:
    """Keep a name's end, by which the outputs of one graph differ."""
    return name if len(name) <= _NAME else f"…{name[-_NAME:]}"


def _figure(lines: int = 0) -> tuple[Figure, Any]:
    """Return a figure high enough for so many lines of text above each other."""
    figure = Figure(figsize=(5.6, max(3.4, 0.8 + 0.2 * lines)), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure, legend_columns: int = 0) -> Markup:
    """Return the figure as an inline SVG; matplotlib escapes the texts in it."""
    if legend_columns:
        figure.legend(frameon=False, loc="outside lower center", ncols=legend_columns)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Type": None,
                                                "Format": None})  # fmt: skip
    text = out.getvalue()
    return Markup(text[text.index("<svg") :])  # noqa: S704 - made above, texts escaped
