"""INT8 and int8-mixed from 64 frames: beside an earlier revision, and whether the limit is kept.

Both revisions work at the same time, since only the latency of their graphs is timed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.benchmarks.quality import metrics, revision
from tests.benchmarks.quality.children import module, quantized
from tests.benchmarks.quality.fidelity import MIXED
from tests.benchmarks.quality.material import AGREEMENT, Model, split
from tests.benchmarks.quality.pairs import Pair, laid_out

FRAMES = 64
_JUDGES = 32


def kept(
    model: Model,
    scene: str,
    *,
    models: Path | None,
    tree: Path | None,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Return the figures of one pair.

    Args:
        models: Folder of further ONNX files.
        tree: The earlier revision, from `revision.checked_out`; None without.
        report: Called with a line for each part.
    """
    with laid_out(model, scene, FRAMES, models) as pair, ThreadPoolExecutor(1) as pool:
        its = None
        if tree is not None and model.earlier:
            its = pool.submit(revision.graphs, tree, pair, *split(scene, FRAMES, _JUDGES))
        made = quantized(pair.folder, "int8") | quantized(pair.folder, MIXED)
        graphs = {name: one["graph"] for name, one in made.items() if "graph" in one}
        found: dict[str, Any] = {
            "metric": metrics.METRICS[model.metric].title,
            "sees": round(metrics.sees(pair.reference, model.metric), 3),
            "int8": {n: pair.figures(g) for n, g in graphs.items() if not n.startswith(MIXED)},
            "mixed": {n: pair.figures(g) for n, g in graphs.items() if n.startswith(MIXED)},
            "refused": {n: one["failed"] for n, one in made.items() if "failed" in one},
        }
        report(f"  {pair.name}: {found['int8'] | found['mixed'] | found['refused']}")
        if its is not None:
            found["earlier"] = _beside(pair, graphs, its.result())
            report(f"  {pair.name}: {found['earlier']}")
        return found


def _beside(pair: Pair, graphs: Mapping[str, str], its: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the best INT8 graphs, and the latency of the int8-mixed ones."""
    found: dict[str, Any] = {
        "figures": {name: pair.figures(graph) for name, graph in its["graphs"].items()},
        "failed": its["failed"],
    }
    sides = [
        max(judged, key=lambda one: one.figures()["sqnr_db"], default=None)
        for judged in (_int8(pair, side) for side in (graphs, its["graphs"]))
    ]
    if sides[0] is not None and sides[1] is not None:
        found["gain"] = metrics.gain(sides[0], sides[1])
    keeping = {n: g for n, g in graphs.items() if n.startswith(MIXED) and _keeps(pair, g)}
    if keeping and MIXED in its["graphs"]:
        names = [MIXED, *keeping]
        timed = module(
            "latency", pair.folder / "holdout.npz", its["graphs"][MIXED], *keeping.values()
        )
        found["latency"] = {"failed": timed["failed"]} if "failed" in timed else {
            "p50_ms": dict(zip(["earlier", *keeping], timed["p50_ms"].values(), strict=True)),
            "earlier_over": {names[int(i)]: span for i, span in timed["ratio_ci95"].items()},
        }  # fmt: skip
    return found


def _int8(pair: Pair, graphs: Mapping[str, str]) -> list[metrics.Judged]:
    return [
        _judged
        for name, graph in graphs.items()
        if not name.startswith(MIXED) and (_judged := _or_none(pair, graph)) is not None
    ]


def _or_none(pair: Pair, graph: str) -> metrics.Judged | None:
    try:
        return pair.judged(graph)
    except ValueError:  # its row has the reason
        return None


def _keeps(pair: Pair, graph: str) -> bool:
    return pair.figures(graph).get("agreement", 0.0) >= AGREEMENT
