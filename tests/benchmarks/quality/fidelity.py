"""INT8 of a pair by every tool, judged on the same held-out frames, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.benchmarks.quality import metrics, peers
from tests.benchmarks.quality.children import quantized, required
from tests.benchmarks.quality.material import Model
from tests.benchmarks.quality.pairs import Pair, laid_out
from tests.benchmarks.quality.steps import CPU

OWN, MIXED = "quantd", "int8-mixed"
_TIMES_LAYERS = "layer_speeds"  # a job that INT8 needs as well, and counts as the front's here
_USABLE_DB = 10.0  # below that INT8 is of no use by any tool


def compared(
    model: Model,
    scene: str,
    *,
    frames: int,
    models: Path | None,
    pythons: Mapping[str, Path],
    report: Callable[[str], None],
    costs: bool,
) -> dict[str, Any]:
    """Return the rows of all tools and the verdict on them.

    Args:
        frames: That calibrate.
        models: Folder of further ONNX files.
        pythons: Of the peers, by name.
        report: Called with a line for each row.
        costs: Whether the parts of the cost are measured as well.
    """
    with laid_out(model, scene, frames, models) as pair:
        rows = []
        for row in _made(pair, pythons):
            if "graph" in row:
                row |= pair.figures(row["graph"])
            rows.append(row)
            report(f"  {pair.name}: {told(row)}")
        found = {
            "metric": metrics.METRICS[model.metric].title,
            "frames": frames,
            "sees": round(metrics.sees(pair.reference, model.metric), 3),
            "rows": [{key: row[key] for key in row if key != "graph"} for row in rows],
            "better": verdicts(rows),
            "better_optimized": verdicts(_optimized(pair, rows)),
        }
        if costs:
            found["cost"] = _cost(pair, rows, frames, models)
            report(f"  {pair.name}: {found['cost']}")
        return found


def _made(pair: Pair, pythons: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    for name, python in pythons.items():
        for method, found in peers.quantized(name, python, pair.folder):
            yield {"tool": peers.PEERS[name].title, "calibrator": method, **found}
    shared: list[dict[str, Any]] = []  # what the first candidate makes for all
    for name, found in quantized(pair.folder, "int8").items():
        jobs = found.get("jobs", [])
        shared = shared or jobs[:-1]
        row = {"tool": OWN, "calibrator": name.partition("-")[2], **found}
        row["jobs"] = [*shared, *jobs[-1:]]
        row["seconds"] = total(row["jobs"], "wall_s")  # of this one alone
        yield row


def total(jobs: Sequence[Mapping[str, Any]], unit: str) -> float:
    """Return the seconds of all jobs but builds, whose engines a run needs anyway."""
    return round(sum(job[unit] for job in jobs if job["kind"] != "build"), 2)


def best(rows: Sequence[Mapping[str, Any]], tool: str, figure: str) -> Mapping[str, Any] | None:
    """Return the row of a tool that is best in a figure."""
    own = [row for row in rows if row["tool"] == tool and figure in row]
    return max(own, key=lambda row: row[figure], default=None)


def verdicts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return for each figure by how much quantd's best is above the best of the peers.

    Empty if either side has no graph, or neither has one over 10 dB.
    """
    found: dict[str, Any] = {}
    usable = max((row["sqnr_db"] for row in rows if "sqnr_db" in row), default=0.0)
    tools = {row["tool"] for row in rows}
    for figure in ("sqnr_db", "agreement"):
        sides = {tool: best(rows, tool, figure) for tool in tools}
        own, peers_ = sides.pop(OWN, None), [row for row in sides.values() if row]
        if own is None or not peers_ or usable <= _USABLE_DB:
            return {}
        peer = max(peers_, key=lambda row: row[figure])
        found[figure] = {
            "margin": round(own[figure] - peer[figure], 4),
            "peer": peer["tool"],
            "share": own["int8_share"],
        }
    return found


def _optimized(pair: Pair, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the best row of each tool with the figures after ONNX Runtime's optimizations."""
    found = []
    for tool in dict.fromkeys(row["tool"] for row in rows):
        row = best(rows, tool, "sqnr_db")
        if row is not None:
            with suppress(ValueError):  # not finite after them
                found.append({**row, **pair.judged(row["graph"], optimized=True).figures()})
    return found


def _cost(
    pair: Pair, rows: Sequence[Mapping[str, Any]], frames: int, models: Path | None
) -> dict[str, Any]:
    """Return CPU seconds: of FP32, of the best INT8 with and without refit, and of the front.

    The front is that of the scheme of this CPU, where layers can be timed.
    """
    own = best(rows, OWN, "sqnr_db")
    if own is None:
        return {"failed": "no INT8 graph"}
    plain = required("plain", pair.clean, pair.folder / "calibration.npz")
    with laid_out(pair.model, pair.scene, frames, models, strategy="fast") as fast:
        (alone,) = quantized(fast.folder, f"int8-{own['calibrator']}").values()
        if "failed" in alone:
            return {"failed": alone["failed"]}
    with laid_out(pair.model, pair.scene, frames, models, CPU, "fast") as here:
        before = quantized(here.folder, f"int8-{own['calibrator']}")
        made = quantized(here.folder, MIXED)
    timing = [job for job in _jobs(before) if job["kind"] == _TIMES_LAYERS]
    front = [*timing, *_jobs(made)]
    found = {
        "pass_cpu_s": plain["pass_cpu_s"],
        "fast_cpu_s": total(alone["jobs"], "cpu_s"),
        "fast_wall_s": total(alone["jobs"], "wall_s"),
        "full_cpu_s": total(own["jobs"], "cpu_s"),
        "jobs": alone["jobs"],
        "full_jobs": own["jobs"],
    }
    return {**found, "front_cpu_s": total(front, "cpu_s"), "front_jobs": front}


def _jobs(made: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [job for one in made.values() for job in one.get("jobs", ())]


def told(row: Mapping[str, Any]) -> str:
    """Return a row as a line."""
    head = f"{row['tool']} {row['calibrator']}: "
    if "failed" in row:
        return head + row["failed"]
    return (
        f"{head}{row['sqnr_db']:.1f} dB, agreement {row['agreement']:.3f}, "
        f"INT8 {row['int8_share']:.1%}, {row['seconds']:.1f} s, {row['peak_rss_mb']:.0f} MB"
    )
