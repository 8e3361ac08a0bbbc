"""The figures as tables: aligned for a terminal, or as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.benchmarks.quality.goals import goals
from tests.benchmarks.rows import aligned, cells, markdown

Row = Sequence[str]
_WAYS = ("quantd", "random", "first")
_MIXED = "int8-mixed"
_GOALS = "What was aimed at (quantd {agent})"
_NOTES = (
    "Agreement and SQNR (of the worst output) are with FP32, on frames that calibrated nothing; "
    "plain ONNX Runtime on the CPU judges every graph as it is written.",
    "INT8 is the share of the clean model's multiply-accumulates in layers whose data and weight "
    "both come out of a DequantizeLinear, counted in each tool's own graph.",
    "Seconds are of the whole quantization without imports, quantd's with all its stages; peak MB "
    "is the most that a process of it had resident, libraries included.",
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
    if result["fidelity"]:
        notes = (*_NOTES, *optimized_note(result["fidelity"].values()))
        parts.extend(f"{'- ' if marked else ''}{note}\n" for note in notes)
    parts.extend(f"not measured: {reason}\n" for reason in result["missing"])
    return "".join(parts)


def optimized_note(found: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Yield what the evaluator's own choice, graph optimizations off, decides."""
    both = [(one["better"], one["better_optimized"]) for one in found if one.get("better")]
    if both:
        held = [
            sum(all(verdict["holds"] for verdict in way.values()) for way in ways)
            for ways in zip(*both, strict=True)
        ]
        yield (
            f"quantd is at least the better peer in both figures in {held[0]} of {len(both)} "
            f"as the graphs are written, in {held[1]} after ONNX Runtime's optimizations."
        )


def _tables(result: Mapping[str, Any]) -> Iterable[tuple[str, Row, list[Row]]]:
    fidelity = {name: one for name, one in result["fidelity"].items() if "rows" in one}
    tools = list(dict.fromkeys(row["tool"] for one in fidelity.values() for row in one["rows"]))
    yield (
        "Best INT8 of each tool: agreement (SQNR, calibrator)",
        ("model, scene", "metric", *tools, f"quantd {_MIXED}"),
        [
            (name, one["metric"], *(_best(one["rows"], tool) for tool in tools), _share(one))
            for name, one in fidelity.items()
        ],
    )
    yield (
        f"INT8 fidelity ({result['scheme']}; {result['frames']} frames calibrate, "
        f"{result['holdout']} others judge; quantd {result['agent']})",
        ("model, scene", "tool", "calibrator", "SQNR dB", "agreement", "INT8", "s", "peak MB"),
        [
            (name, row["tool"], row["calibrator"], *_figures(row))
            for name, one in fidelity.items()
            for row in one["rows"]
        ],
    )
    yield (
        "quantd against the better peer at no smaller INT8 share, and int8-mixed",
        ("model, scene", "metric", "SQNR", "agreement", "int8-mixed", "trials", "costliest layers"),
        [(name, one["metric"], *_verdict(one)) for name, one in fidelity.items()],
    )

    if "cost" in result:
        yield _cost(result["cost"])
    representative = result.get("representative", {})
    yield (
        "Which frames calibrate, on a scene that changes (both clips in a row): median (range)",
        ("model, calibrator, frames", "figure", "chosen by quantd", "at random", "the first"),
        [
            (f"{name}, {calibrator}, {count}", title, *(_span(spans[w], digits) for w in _WAYS))
            for name, one in representative.items()
            for count, told in one["told"].items()
            for calibrator, figures in told.items()
            for title, spans, digits in (
                ("SQNR dB", figures["sqnr_db"], 1),
                (one["metric"], figures["agreement"], 3),
            )
        ],
    )


def _cost(cost: Mapping[str, Any]) -> tuple[str, Row, list[Row]]:
    beside = cost["pass_beside"]
    return (
        f"Whole quantization of CenterFace over FP32 inference of its {beside['frames']} frames "
        f"({beside['plain_s']:.1f} s)",
        ("tool", "calibrator", "s", "ratio", "peak MB"),
        [
            (
                row["tool"],
                row["calibrator"],
                f"{row['seconds']:.1f}",
                f"{row['ratio']:.1f}",
                f"{row['peak_rss_mb']:.0f}",
            )
            for row in cost["whole"]
        ],
    )


def _span(found: Mapping[str, float], digits: int) -> str:
    told = f"{found['median']:.{digits}f}"
    if found["lowest"] == found["highest"]:
        return told
    return f"{told} ({found['lowest']:.{digits}f} to {found['highest']:.{digits}f})"


def _best(rows: Sequence[Mapping[str, Any]], tool: str) -> str:
    """Return the calibrator of a tool that agrees most, of equals the one with less noise."""
    own = [
        row
        for row in rows
        if row["tool"] == tool and row["calibrator"] != _MIXED and "agreement" in row
    ]
    if not own:
        return "-"
    best = max(own, key=lambda row: (row["agreement"], row["sqnr_db"]))
    return f"{best['agreement']:.3f} ({best['sqnr_db']:.1f} dB, {best['calibrator']})"


def _share(one: Mapping[str, Any]) -> str:
    row = one["rows"][-1]
    if "agreement" not in row:
        return "not offered"
    return f"{row['agreement']:.3f} ({row['sqnr_db']:.1f} dB) with {row['int8_share']:.0%} in INT8"


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


def _verdict(one: Mapping[str, Any]) -> Row:
    better, mixed = one["better"], one["mixed"]
    told = [
        f"{'yes' if better[f]['holds'] else 'NO'} ({better[f]['margin']:+.{digits}f})"
        if f in better
        else "-"
        for f, digits in (("sqnr_db", 1), ("agreement", 3))
    ]
    if "reason" in mixed:
        return (*told, "not offered", "-", mixed["reason"].rpartition("cost most at ")[2])
    word = "yes" if mixed["holds"] else "NO"
    layers = ", ".join(
        f"{c['layer']} ({c['sqnr_db']:.1f} dB)" if c["sqnr_db"] is not None else c["layer"]
        for c in mixed["costliest"]
    )
    return (
        *told,
        f"{word}: {mixed['agreement']:.3f} at {mixed['int8_share']:.0%}",
        f"{mixed['evaluations']} of {mixed['bound']}",
        layers,
    )
