"""The figures as tables: aligned for a terminal, or as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tests.benchmarks.quality.fidelity import OWN, best
from tests.benchmarks.quality.goals import goals
from tests.benchmarks.rows import aligned, cells, markdown

Row = Sequence[str]
_WAYS = ("quantd", "random", "first")
_GOALS = "What was aimed at (quantd {agent})"
_NOTES = (
    "Agreement and SQNR (of the worst group of channels) are with FP32, on frames that calibrated "
    "nothing; plain ONNX Runtime on the CPU judges every graph as it is written.",
    "INT8 is the share of the clean model's multiply-accumulates in layers that read data and "
    "weights out of a DequantizeLinear, counted in each tool's own graph.",
    "CPU time is that of the processes that a run starts, imports included; an FP32 pass is the "
    "inference of the calibration frames with one thread. Wall time includes imports as well, "
    "those of the peers too.",
)


def render(result: Mapping[str, Any], *, marked: bool) -> str:
    """Return everything that a reader of the terminal, or `marked` of the README, wants."""
    table = markdown if marked else aligned
    parts = []
    top, *aims = cells(goals(result))
    for title, head, rows in ((_GOALS.format(**result), top, aims), *_tables(result)):
        if rows:
            parts.append(f"{'### ' if marked else ''}{title}\n\n")
            parts.append(table([head, *rows]))
            parts.append("\n")
    if result.get("fidelity"):
        notes = (*_NOTES, *optimized_note(result["fidelity"].values()))
        parts.extend(f"{'- ' if marked else ''}{note}\n" for note in notes)
    parts.extend(f"not measured: {reason}\n" for reason in result["missing"])
    return "".join(parts)


def optimized_note(found: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what the evaluator's own choice, graph optimizations off, decides."""
    both = [(one["better"], one["better_optimized"]) for one in found if one.get("better")]
    if both:
        held = [
            sum(min(figure["margin"] for figure in way.values()) >= 0 for way in ways if way)
            for ways in zip(*both, strict=True)
        ]
        yield (
            f"quantd is at least the better peer in both figures in {held[0]} of {len(both)} "
            f"as the graphs are written, in {held[1]} after ONNX Runtime's optimizations."
        )


def _tables(result: Mapping[str, Any]) -> Iterable[tuple[str, Row, list[Row]]]:
    fidelity = {n: one for n, one in result.get("fidelity", {}).items() if "rows" in one}
    tools = list(dict.fromkeys(row["tool"] for one in fidelity.values() for row in one["rows"]))
    yield (
        "Best INT8 of each tool: SQNR by groups (agreement, calibrator)",
        ("model, scene", "metric", *tools, "margin"),
        [
            (name, one["metric"], *(_best(one["rows"], tool) for tool in tools), _margins(one))
            for name, one in fidelity.items()
        ],
    )
    yield (
        f"INT8 fidelity ({result.get('scheme')}; {result.get('frames')} frames calibrate, 32 others "
        "judge)",
        ("model, scene", "tool", "calibrator", "SQNR dB", "agreement", "INT8", "s", "peak MB"),
        [
            (name, row["tool"], row["calibrator"], *_figures(row))
            for name, one in fidelity.items()
            for row in one["rows"]
        ],
    )
    yield (
        "CPU seconds of whole quantizations",
        ("model", "FP32 pass", "INT8, fast", "INT8", "int8-mixed on top", "jobs of the fast one"),
        [
            (
                name,
                *(f"{one['cost'][k]:.2f}" for k in ("pass_cpu_s", "fast_cpu_s", "full_cpu_s",
                                                     "front_cpu_s")),
                ", ".join(f"{job['kind']} {job['cpu_s']:.1f}" for job in one["cost"]["jobs"]),
            )
            for name, one in fidelity.items()
            if "pass_cpu_s" in one.get("cost", {})
        ],
    )  # fmt: skip
    yield _promises(result.get("promises", {}), result.get("revision", ""))
    yield _representative(result.get("representative", {}))


def _promises(found: Mapping[str, Any], revision: str) -> tuple[str, Row, list[Row]]:
    return (
        f"From 64 frames: INT8 and int8-mixed beside {revision or 'no earlier revision'}",
        ("model, scene", "sees", "best INT8", "earlier", "gain dB", "int8-mixed (U8S8)", "earlier",
         "p50 ms"),
        [
            (
                name,
                f"{one['sees']:.2f}",
                _line(_top(one["int8"])),
                _line(_top(one["int8_earlier"])),
                _gain(one),
                "; ".join(map(_line, one["mixed"].values())),
                "; ".join(map(_line, one["mixed_earlier"].values())) or "-",
                _latency(one),
            )
            for name, one in found.items()
            if "mixed" in one
        ],
    )  # fmt: skip


def _top(figures: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    sound = [one for one in figures.values() if "sqnr_db" in one]
    return max(sound, key=lambda one: one["sqnr_db"], default=None)


def _line(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "-"
    if "failed" in one:
        return "not offered" if "not offered" in one["failed"] else one["failed"][:40]
    return f"{one['sqnr_db']:.1f} dB {one['agreement']:.3f} {one['int8_share']:.0%}"


def _gain(one: Mapping[str, Any]) -> str:
    gain = one.get("gain")
    if gain is None:
        return "-"
    spans = gain["sqnr_db_ci95"]
    span = f" ({spans[0]:+.1f} to {spans[1]:+.1f})" if spans else ""
    return f"{gain['sqnr_db']:+.1f}{span}, {gain['agreement']:+.3f}"


def _latency(one: Mapping[str, Any]) -> str:
    found = one.get("latency", {}).get("p50_ms", {})
    return ", ".join(f"{name} {ms:.2f}" for name, ms in found.items()) or "-"


def _representative(found: Mapping[str, Any]) -> tuple[str, Row, list[Row]]:
    return (
        "Which frames calibrate, on a scene that changes (both clips in a row): median (range)",
        ("model, calibrator, frames", "figure", "chosen by quantd", "at random", "the first"),
        [
            (f"{name}, {calibrator}, {count}", title, *(_span(spans[w], digits) for w in _WAYS))
            for name, one in found.items()
            for count, by_calibrator in one["told"].items()
            for calibrator, figures in by_calibrator.items()
            for title, spans, digits in (
                ("SQNR dB", figures["sqnr_db"], 1),
                (one["metric"], figures["agreement"], 3),
            )
        ],
    )


def _span(found: Mapping[str, float], digits: int) -> str:
    middle = f"{found['median']:.{digits}f}"
    if found["lowest"] == found["highest"]:
        return middle
    return f"{middle} ({found['lowest']:.{digits}f} to {found['highest']:.{digits}f})"


def _best(rows: Sequence[Mapping[str, Any]], tool: str) -> str:
    row = best(rows, tool, "sqnr_db")
    if row is None:
        return "-"
    return f"{row['sqnr_db']:.1f} dB ({row['agreement']:.3f}, {row['calibrator']})"


def _margins(one: Mapping[str, Any]) -> str:
    better = one["better"]
    if not better:
        return "-"
    margins = f"{better['sqnr_db']['margin']:+.1f} dB, {better['agreement']['margin']:+.3f}"
    return f"{margins}, {better['sqnr_db']['share']:.0%} in INT8 by {OWN}"


def _figures(row: Mapping[str, Any]) -> Row:
    if "failed" in row:
        return (row["failed"][:60], "", "", "", "")
    return (
        f"{row['sqnr_db']:.1f}",
        f"{row['agreement']:.3f}",
        f"{row['int8_share']:.1%}",
        f"{row['seconds']:.1f}",
        f"{row['peak_rss_mb']:.0f}",
    )
