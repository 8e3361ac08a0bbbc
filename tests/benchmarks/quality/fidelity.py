"""INT8 of one model in front of one scene, by every tool, judged on the same held-out frames."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from agent.core.errors import QuantdError
from agent.core.quantization.calibrator_names import CALIBRATORS
from agent.engines.errors import ONNXRUNTIME_ERRORS, one_line
from agent.graphs.compute import node_macs
from tests.benchmarks.quality import metrics, peers
from tests.benchmarks.quality.children import step
from tests.benchmarks.quality.material import AGREEMENT, Model, split
from tests.benchmarks.quality.steps import lay_out

_LEAST_SHARE = 0.70
_ROUNDING = 0.001  # of shares: a residual's scale more or less is no layer
_STAGES = ("condition", "statistics")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is the same for every row."""

    models: Path | None
    frames: int
    holdout: int
    pythons: Mapping[str, Path]
    say: Callable[[str], None]


def compared(model: Model, scene: str, setting: Setting) -> dict[str, Any]:
    """Return the rows of all tools and what they say together."""
    with tempfile.TemporaryDirectory(prefix="quantd-bench-") as directory:
        folder = Path(directory) / "work"
        path = model.locate(setting.models, peers.CACHE)
        chosen = {**model.settings, "model.name": model.name, "model.path": str(path)}
        frames, holdout = split(scene, setting.frames, setting.holdout)
        lay_out(folder, {**chosen, "limits.agreement": AGREEMENT}, frames, holdout)
        made = step("intake", folder)
        if "failed" in made:
            return {"failed": made["failed"]}
        held, clean = str(folder / "holdout.npz"), str(folder / "model.onnx")
        reference = metrics.outputs(clean, held)
        rows = []
        for row in _attempts(folder, setting):
            graph = row.pop("graph", None)
            if graph is not None:
                try:
                    row |= metrics.judged(graph, clean, reference, held, model.metric)
                except (QuantdError, *ONNXRUNTIME_ERRORS) as e:
                    row["failed"] = f"the graph can't be judged: {one_line(e)}"
            rows.append(row)
            setting.say(f"  {model.name}, {scene}: {_told(row)}")
        layers = sum(1 for _ in node_macs(onnx.shape_inference.infer_shapes(onnx.load(clean))))
        return {
            "metric": metrics.TITLES[model.metric],
            "frames": len(frames),
            "holdout": len(holdout),
            "rows": rows,
            "better": verdicts(rows),
            "better_optimized": verdicts([{**row, **row.get("optimized", {})} for row in rows]),
            "mixed": _mixed(rows, layers),
        }


def _attempts(folder: Path, setting: Setting) -> Iterator[dict[str, Any]]:
    for name, python in setting.pythons.items():
        for method, found in peers.quantized(name, python, folder):
            yield {"tool": peers.PEERS[name].title, "calibrator": method, **found}
    before = [step(name, folder) for name in _STAGES]
    trouble = next((one["failed"] for one in before if "failed" in one), None)
    for precision, *rest in (*(("int8", name) for name in CALIBRATORS), ("mixed",)):
        row = {"tool": "quantd", "calibrator": (rest or ["int8-mixed"])[0]}
        if trouble:
            yield {**row, "failed": trouble}
            continue
        found = step(precision, folder, *rest)
        if "seconds" in found:  # what this one alone would have cost, all its stages
            found["stages_s"] = [one["seconds"] for one in (*before, found)]
            found["seconds"] = round(sum(found["stages_s"]), 2)
            found["peak_rss_mb"] = max(one["peak_rss_mb"] for one in (*before, found))
            found["conditioning"] = before[0]["tried"]
        yield {**row, **found}


def verdicts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return for each figure whether some graph of quantd's is as good as every peer's.

    It must have at least as much of the compute in INT8 as the peer's graph it is held against.
    """
    judged = [row for row in rows if "sqnr_db" in row]
    found: dict[str, Any] = {}
    for figure in ("sqnr_db", "agreement"):
        worst = math.inf
        for peer in judged:
            if peer["tool"] == "quantd":
                continue
            own = [
                row[figure]
                for row in judged
                if row["tool"] == "quantd" and row["int8_share"] >= peer["int8_share"] - _ROUNDING
            ]
            worst = min(worst, max(own, default=-math.inf) - peer[figure])
        if math.isfinite(worst):
            found[figure] = {"holds": worst >= 0, "margin": round(worst, 3)}
    return found


def _mixed(rows: list[dict[str, Any]], layers: int) -> dict[str, Any]:
    row = rows[-1]
    bound = int(2 * math.log2(max(layers, 2)) + 10)
    if "agreement" not in row:
        return {"holds": False, "layers": layers, "bound": bound, "reason": row["failed"]}
    return {
        "holds": row["agreement"] >= AGREEMENT and row["int8_share"] >= _LEAST_SHARE,
        "agreement": row["agreement"],
        "int8_share": row["int8_share"],
        "layers": layers,
        "bound": bound,
        "evaluations": row["evaluations"],
        "kept_float": len(row["kept_float"]),
        "costliest": [
            {"layer": one["layer"], "sqnr_db": one["sqnr_db"], "kept_float": one["kept_float"]}
            for one in row["sensitivity"][:3]
        ],
    }


def _told(row: Mapping[str, Any]) -> str:
    name = f"{row['tool']} {row['calibrator']}"
    if "failed" in row:
        return f"{name}: {row['failed']}"
    return (
        f"{name}: {row['sqnr_db']:.1f} dB, {row['agreement']:.3f}, {row['int8_share']:.1%} INT8, "
        f"{row['seconds']:.0f} s, {row['peak_rss_mb']:.0f} MB"
    )
