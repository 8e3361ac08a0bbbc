"""INT8 and int8-mixed from 64 frames: beside an earlier revision, and whether the limit is kept.

INT8 is compared in TensorRT's scheme, as with the peers; int8-mixed in that of this CPU, where its
layers and its graphs can be timed. Both revisions work at the same time, since only the latency of
their graphs is timed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.benchmarks.quality import metrics, revision
from tests.benchmarks.quality.children import module, quantized
from tests.benchmarks.quality.fidelity import MIXED
from tests.benchmarks.quality.material import AGREEMENT, Model, split
from tests.benchmarks.quality.pairs import Pair, laid_out
from tests.benchmarks.quality.steps import CPU, TENSORRT

FRAMES = 64
_JUDGES = 32
_EARLIER = "earlier"


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
    found: dict[str, Any] = {"metric": metrics.METRICS[model.metric].title}
    tree = tree if model.earlier else None
    with laid_out(model, scene, FRAMES, models, TENSORRT) as pair:
        found["sees"] = round(metrics.sees(pair.reference, model.metric), 3)
        made, its = _made(pair, "int8", tree)
        found |= {"int8": _figures(pair, made), "int8_earlier": _figures(pair, its)}
        sides = [_best(pair, one.values()) for one in (made, its)]
        if sides[0] is not None and sides[1] is not None:
            found["gain"] = metrics.gain(sides[0], sides[1])
    report(f"  {pair.name}: {found}")
    with laid_out(model, scene, FRAMES, models, CPU) as pair:
        made, its = _made(pair, MIXED, tree)
        mixed = {"mixed": _figures(pair, made), "mixed_earlier": _figures(pair, its)}
        keeping = {
            name: graph["graph"]
            for name, graph in made.items()
            if mixed["mixed"][name].get("agreement", 0.0) >= AGREEMENT
        }
        if keeping and "graph" in its.get(MIXED, {}):
            mixed["latency"] = _latency(pair, its[MIXED]["graph"], keeping)
    report(f"  {pair.name}: {mixed}")
    return found | mixed


Made = Mapping[str, Mapping[str, Any]]
"""By candidate: its graph, or the reason why there is none."""


def _made(pair: Pair, precision: str, tree: Path | None) -> tuple[Made, Made]:
    """Return what this revision and the earlier one make."""
    with ThreadPoolExecutor(1) as pool:
        its = None
        if tree is not None:
            shown = split(pair.scene, FRAMES, _JUDGES)
            its = pool.submit(revision.graphs, tree, pair, precision, *shown)
        made = quantized(pair.folder, precision)
        return made, its.result() if its is not None else {}


def _figures(pair: Pair, made: Made) -> dict[str, Any]:
    return {
        name: pair.figures(one["graph"]) if "graph" in one else {"failed": one["failed"]}
        for name, one in made.items()
    }


def _best(pair: Pair, made: Iterable[Mapping[str, Any]]) -> metrics.Judged | None:
    """Return the graph of the highest SQNR."""
    found = []
    for one in made:
        try:
            found += [pair.judged(one["graph"])] if "graph" in one else []
        except ValueError:  # its figures have the reason
            continue
    return max(found, key=lambda one: one.figures()["sqnr_db"], default=None)


def _latency(pair: Pair, earlier: str, ours: Mapping[str, str]) -> dict[str, Any]:
    timed = module("latency", pair.folder / "holdout.npz", earlier, *ours.values())
    if "failed" in timed:
        return {"failed": timed["failed"]}
    names = [_EARLIER, *ours]
    return {
        "p50_ms": dict(zip(names, timed["p50_ms"].values(), strict=True)),
        "earlier_over": {names[int(i)]: span for i, span in timed["ratio_ci95"].items()},
    }
