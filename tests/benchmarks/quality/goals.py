"""What was aimed at, and what one run of `make bench-quality` found."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from tests.benchmarks.quality.material import AGREEMENT
from tests.benchmarks.rows import Row

_TIMES = 3.0
_FOUR = 1.3
_PASSES, _OTHERS, _FIXED_S = 25, 30, 3.0
_REFIT, _FRONT = 50, 60
_ABOVE_MB, _GROWTH = 300, 0.02
_GAIN_DB = 1.0
_ACCEPTED, _KEPT = 0.8, 0.9
SEEN = 0.5
"""Of the frames FP32 must see something in this share, or there is little to agree on."""


def goals(result: Mapping[str, Any]) -> list[Row]:
    """Return a row for each goal of which the run has figures."""
    fidelity = {name: one for name, one in result.get("fidelity", {}).items() if "rows" in one}
    costs = {
        name.partition(",")[0]: {**one["cost"], "peer": _model_optimizer(one["rows"])}
        for name, one in fidelity.items()
        if "pass_cpu_s" in one.get("cost", {})
    }
    rows: list[Row] = []
    if costs:
        rows.extend(_costs(costs))
    if "peak_rss_mb" in result.get("memory", {}):
        rows.extend(_memory(result["memory"]))
    if fidelity:
        rows.append(_better(fidelity))
    if result.get("promises"):
        rows.extend(_promises(result["promises"], result.get("revision", "")))
    if "pass" in result:
        rows.extend(_pass(result["pass"]))
    if result.get("representative"):
        rows.append(_representative(result["representative"]))
    return rows


def _model_optimizer(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the row of Model Optimizer's cheaper method; None if it did not run."""
    found = [one for one in rows if one["tool"] == "Model Optimizer" and "seconds" in one]
    return min(found, key=lambda one: one["wall_s"], default=None)


def _costs(costs: Mapping[str, Mapping[str, Any]]) -> Iterator[Row]:
    passes = {name: one["fast_cpu_s"] / one["pass_cpu_s"] for name, one in costs.items()}
    what = "CPU time of whole quantization (best INT8, 16 frames, without refit)"
    if "centerface" in passes:
        yield Row(
            what=f"{what}, CenterFace",
            goal=f"at most {_PASSES} FP32 passes of its frames",
            found=f"{passes['centerface']:.1f}",
            met=passes["centerface"] <= _PASSES,
        )
    others = {name: costs[name] for name in passes if name != "centerface"}
    if others:
        over = {
            name: one["fast_cpu_s"] - _OTHERS * one["pass_cpu_s"] for name, one in others.items()
        }
        figures = ", ".join(
            f"{name} {passes[name]:.0f} ({one['fast_cpu_s']:.1f} s)" for name, one in others.items()
        )
        yield Row(
            what=f"{what}, the other models",
            goal=f"at most {_OTHERS} passes and {_FIXED_S:g} s",
            found=figures,
            met=max(over.values()) <= _FIXED_S,
        )
    yield _wall({name: one for name, one in costs.items() if one["peer"]})
    yield _on_top("refit on top", _REFIT, costs, lambda one: one["full_cpu_s"] - one["fast_cpu_s"])
    yield _on_top("int8-mixed on top", _FRONT, costs, lambda one: one["front_cpu_s"])


def _wall(costs: Mapping[str, Mapping[str, Any]]) -> Row:
    below, strictly = (
        sum(one["fast_wall_s"] < one["peer"][figure] for one in costs.values())
        for figure in ("wall_s", "seconds")
    )
    each = "".join(
        f"; {name} {one['fast_wall_s']:.1f} s, it {one['peer']['wall_s']:.1f} s"
        for name, one in costs.items()
    )
    return Row(
        what="its wall time against Model Optimizer's cheaper method",
        goal="below on at least half of the models",
        found=f"{below} of {len(costs)}, {strictly} if its imports are not counted{each}",
        met=2 * below >= len(costs) if costs else None,
    )


def _on_top(what: str, most: int, costs: Mapping[str, Any], spent: Any) -> Row:
    passes = {name: spent(one) / one["pass_cpu_s"] for name, one in costs.items()}
    return Row(
        what=f"CPU time of {what}",
        goal=f"at most {most} FP32 passes",
        found=", ".join(f"{n} {passes[n]:.0f} ({spent(one):.1f} s)" for n, one in costs.items()),
        met=max(passes.values()) <= most,
    )


def _memory(memory: Mapping[str, Any]) -> Iterator[Row]:
    peaks = {int(count): peak for count, peak in memory["peak_rss_mb"].items()}
    if not peaks:
        return
    few, many = min(peaks), max(peaks)
    above = peaks[few] - memory["runtime_mb"]
    yield Row(
        what=f"peak memory of quantizing CenterFace, {few} frames, above FP32 inference alone",
        goal=f"under {_ABOVE_MB} MB",
        found=f"{above:.0f} MB ({peaks[few]:.0f} of which {memory['runtime_mb']:.0f})",
        met=above < _ABOVE_MB,
    )
    growth = peaks[many] / peaks[few] - 1
    yield Row(
        what=f"its growth to {many} frames",
        goal=f"under {_GROWTH:.0%}",
        found=f"{growth:+.1%}" if many > few else "not measured",
        met=growth < _GROWTH if many > few else None,
    )


def _better(fidelity: Mapping[str, Any]) -> Row:
    judged = {name: one["better"] for name, one in fidelity.items() if one["better"]}
    lost = {
        name: one
        for name, one in judged.items()
        if min(figure["margin"] for figure in one.values()) < 0
    }
    misses = "".join(
        f"; {name} {one['sqnr_db']['margin']:+.1f} dB, {one['agreement']['margin']:+.3f}"
        for name, one in lost.items()
    )
    return Row(
        what="INT8 against the better peer: SQNR by groups of channels, and the metric",
        goal="at least it in both where either is over 10 dB",
        found=f"{len(judged) - len(lost)} of {len(judged)}{misses}" if judged else "no peer ran",
        met=not lost if judged else None,
    )


def _promises(found: Mapping[str, Any], revision: str) -> Iterator[Row]:
    gains = {name: one["gain"] for name, one in found.items() if "gain" in one}
    if gains:
        worse = [name for name, gain in gains.items() if is_worse(gain)]
        median = statistics.median(gain["sqnr_db"] for gain in gains.values())
        yield Row(
            what=f"INT8 from 64 frames against {revision}, the same frames",
            goal=f"no pair worse by more than its interval, median at least {_GAIN_DB:+g} dB",
            found=f"median {median:+.1f} dB over {len(gains)} pairs; "
            f"worse: {', '.join(worse) or 'none'}",
            met=not worse and median >= _GAIN_DB,
        )
    seen = {name: one for name, one in found.items() if one.get("sees", 0.0) >= SEEN}
    accepted = {name: last for name, one in seen.items() if (last := strict(one["mixed"]))}
    yield Row(
        what=f"int8-mixed with limits.agreement {AGREEMENT:g} where FP32 sees something: accepted",
        goal=f"at least {_ACCEPTED:.0%} of the pairs",
        found=f"{len(accepted)} of {len(seen)}",
        met=len(accepted) >= _ACCEPTED * len(seen) if seen else None,
    )
    missed = {n: one["agreement"] for n, one in accepted.items() if one["agreement"] < AGREEMENT}
    kept = len(accepted) - len(missed)
    yield Row(
        what="of these, the limit is kept on frames that calibrated nothing",
        goal=f"at least {_KEPT:.0%}",
        found=f"{kept} of {len(accepted)}"
        + "".join(f"; {name} {agreement:.3f}" for name, agreement in missed.items()),
        met=kept >= _KEPT * len(accepted) if accepted else None,
    )
    yield from _latency(found, revision)


def strict(mixed: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the figures of the int8-mixed graph that promises to keep the limit, the last."""
    made = [one for one in mixed.values() if "agreement" in one]
    return made[-1] if made else None


def is_worse(gain: Mapping[str, Any]) -> bool:
    """Return whether a figure is lower by more than the interval of the difference."""
    spans = (gain["sqnr_db_ci95"], gain["agreement_ci95"])
    return any(span is not None and span[1] < 0 for span in spans)


def fastest(latency: Mapping[str, Any]) -> str:
    """Return the name of the fastest graph of this revision."""
    ours = {name: ms for name, ms in latency["p50_ms"].items() if name != "earlier"}
    return min(ours, key=ours.__getitem__)


def _latency(found: Mapping[str, Any], revision: str) -> Iterator[Row]:
    timed = {
        name: one["latency"] for name, one in found.items() if "p50_ms" in one.get("latency", {})
    }
    if not timed:
        return
    spans = {name: one["earlier_over"].get(fastest(one)) for name, one in timed.items()}
    faster = [name for name, span in spans.items() if span and span[0] > 1]
    slower = [name for name, span in spans.items() if span and span[1] < 1]
    yield Row(
        what=f"p50 of the fastest int8-mixed that keeps the limit against {revision}'s, in turn",
        goal="faster in at least half, slower in none beyond noise",
        found=f"faster in {len(faster)} of {len(timed)}; slower: {', '.join(slower) or 'none'}",
        met=2 * len(faster) >= len(timed) and not slower,
    )


def _pass(cost: Mapping[str, Any]) -> Iterator[Row]:
    ratio = (cost["pass"]["seconds"] + cost["calibrators"]["entropy_s"]) / cost["pass"]["plain_s"]
    frames, four = cost["pass"]["frames"], cost["calibrators"]["four_over_one"]
    yield Row(
        what=f"time of entropy calibration (CenterFace 480x640, {frames} frames) over FP32 inference",
        goal=f"at most {_TIMES:g}",
        found=f"{ratio:.2f}",
        met=ratio <= _TIMES,
    )
    yield Row(
        what="time of all four calibrators from one pass, over the cheapest alone",
        goal=f"at most {_FOUR:g}",
        found=f"{four:.2f}",
        met=four <= _FOUR,
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
