"""What was aimed at, and what one run of `make bench-quality` found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.benchmarks.rows import Row

_TIMES = 3.0
_PEAK_MB = 600
_GROWTH = 0.10
_FOUR = 1.3
_AGREEMENT, _SHARE = 0.97, 0.70


def goals(result: Mapping[str, Any]) -> list[Row]:
    """Return a row for each goal of which the run has figures."""
    fidelity = {name: one for name, one in result["fidelity"].items() if "rows" in one}
    rows: list[Row] = []
    if "cost" in result:
        rows.extend(_cost(result["cost"]))
    if fidelity:
        rows.extend(
            (_better(fidelity, len(result["fidelity"])), _mixed(fidelity), _trials(fidelity))
        )
    if result.get("representative"):
        rows.append(_representative(result["representative"]))
    return rows


def _cost(cost: Mapping[str, Any]) -> Iterator[Row]:
    ratio = (cost["pass"]["seconds"] + cost["calibrators"]["entropy_s"]) / cost["pass"]["plain_s"]
    peaks = {int(count): peak for count, peak in cost["peak_rss_mb"].items()}
    frames, four = cost["pass"]["frames"], cost["calibrators"]["four_over_one"]
    beside = [
        f"{row['tool']} {row['ratio']:.0f}"
        for row in cost["whole"]
        if row["calibrator"].lower() == "entropy"
    ]
    few = cost["pass_beside"]["frames"]
    whole = f"; whole quantization with {few}: {', '.join(beside)}" if beside else ""
    yield Row(
        what=f"time of entropy calibration (CenterFace 480x640, {frames} frames) over FP32 inference",
        goal=f"at most {_TIMES:g}",
        found=f"{ratio:.2f}{whole}",
        met=ratio <= _TIMES,
    )
    yield Row(
        what="its peak memory",
        goal=f"under {_PEAK_MB} MB",
        found=f"{peaks[frames]:.0f} MB",
        met=peaks[frames] < _PEAK_MB,
    )
    yield Row(
        what=f"the same, from {min(peaks)} to {max(peaks)} frames",
        goal=f"growth under {_GROWTH:.0%}",
        found=f"{cost['growth']:+.1%}",
        met=cost["growth"] < _GROWTH,
    )
    yield Row(
        what="time of all four calibrators from one pass, over the cheapest alone",
        goal=f"at most {_FOUR:g}",
        found=f"{four:.2f}",
        met=four <= _FOUR,
    )


def _better(fidelity: Mapping[str, Any], wanted: int) -> Row:
    judged = [one["better"] for one in fidelity.values() if len(one["better"]) > 1]
    held = sum(all(figure["holds"] for figure in one.values()) for one in judged)
    least = ", ".join(
        f"{min(one[figure]['margin'] for one in judged):+.{digits}f}{unit}"
        for figure, digits, unit in (("sqnr_db", 1, " dB"), ("agreement", 3, ""))
        if judged
    )
    return Row(
        what="SQNR and agreement of INT8 against the better of the peers, at no smaller INT8 share",
        goal=f"as good or better in all {wanted}",
        found=f"{held} of {len(judged)}, smallest margin {least}" if judged else "no peer ran",
        met=False if held < len(judged) else True if held == wanted else None,
    )


def _mixed(fidelity: Mapping[str, Any]) -> Row:
    found = [one["mixed"] for one in fidelity.values()]
    held = sum(one["holds"] for one in found)
    explained = all(
        one["holds"] or one.get("costliest") or "cost most at" in one["reason"] for one in found
    )
    rest = f"; the layers are named in the other {len(found) - held}" if held < len(found) else ""
    return Row(
        what=f"int8-mixed: agreement of {_AGREEMENT:g} with {_SHARE:.0%} of the compute in INT8",
        goal=f"all {len(found)}, or the layers that prevent it are named",
        found=f"{held} of {len(found)}{rest if explained else ', without a reason for each'}",
        met=explained,
    )


def _trials(fidelity: Mapping[str, Any]) -> Row:
    found = [one["mixed"] for one in fidelity.values() if "evaluations" in one["mixed"]]
    spent = [one["evaluations"] - one["bound"] for one in found]
    counts = [one["evaluations"] for one in found]
    bounds = {one["bound"] for one in found}
    return Row(
        what="whole graphs that its search evaluates",
        goal=f"at most 2 log2(layers) + 10, here {_span(bounds)}",
        found=f"{_span(counts)}, in the {len(found)} searches that found a graph",
        met=max(spent) <= 0 if found else None,
    )


def _representative(found: Mapping[str, Any]) -> Row:
    pairs = [
        (figures["sqnr_db"]["quantd"]["median"], figures["sqnr_db"]["random"]["median"])
        for one in found.values()
        for by_count in one["told"].values()
        for figures in by_count.values()
    ]
    won = sum(ours > theirs for ours, theirs in pairs)
    return Row(
        what="median SQNR with frames chosen by quantd against random frames, on a scene that changes",
        goal="higher",
        found=f"higher in {won} of {len(pairs)}",
        met=won == len(pairs) if pairs else None,
    )


def _span(values: Sequence[int] | set[int]) -> str:
    if not values:
        return "none"
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"
