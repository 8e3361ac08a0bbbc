"""How near a quantized graph is to FP32: one evaluator for every tool's graphs.

Outputs come from plain ONNX Runtime on the CPU and the metrics are the few lines below. Of quantd
only the groups of channels are taken, since "SQNR by groups" is defined by them. Graph
optimizations are off: they move and merge Q/DQ, which costs some graphs several dB that TensorRT,
for which this scheme is made, would not take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from agent.core.fidelity.channel_groups import GroupSums, OutputSums
from agent.core.fidelity.resampling import Counts, bootstrap_ci95, each_frame_once
from agent.graphs.compute import node_macs

Outputs = Mapping[str, NDArray[np.float32]]
_TOP = 200
_CUT = 0.5
_MOVING = ("Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A task's metric: a ratio of two sums over frames.

    Attributes:
        parts: Returns (agreed, possible) of one frame, given the first output of FP32 and of the
            graph.
        sees: Returns whether FP32 finds anything to agree on in a frame.
    """

    title: str
    parts: Callable[[NDArray[np.float32], NDArray[np.float32]], tuple[float, float]]
    sees: Callable[[NDArray[np.float32]], bool]


def _heatmap(expected: NDArray[np.float32], seen: NDArray[np.float32]) -> tuple[float, float]:
    """Return how many of the 200 highest cells are the same."""
    best = [set(np.argsort(-one.ravel())[:_TOP].tolist()) for one in (expected, seen)]
    return len(best[0] & best[1]), len(best[0])


def _classes(expected: NDArray[np.float32], seen: NDArray[np.float32]) -> tuple[float, float]:
    """Return how many rows of the last axis have the same class."""
    same = expected.argmax(axis=-1) == seen.argmax(axis=-1)
    return float(same.sum()), float(same.size)


def _masks(expected: NDArray[np.float32], seen: NDArray[np.float32]) -> tuple[float, float]:
    """Return intersection and union of what is above 0.5."""
    wanted, found = expected > _CUT, seen > _CUT
    return float((wanted & found).sum()), float((wanted | found).sum())


METRICS: Mapping[str, Metric] = {
    "heatmap": Metric(
        title="top-200 heatmap overlap",
        parts=_heatmap,
        sees=lambda expected: bool(expected.max() > 0.2),  # CenterFace's usual threshold
    ),
    "top1": Metric(title="top-1 agreement", parts=_classes, sees=lambda _: True),
    "iou": Metric(
        title="IoU at 0.5", parts=_masks, sees=lambda expected: bool((expected > _CUT).any())
    ),
}


def heatmap_overlap(expected: Outputs, seen: Outputs) -> float:
    """Return the metric of heat maps as quantd wants a user's: of one frame, 0..1."""
    return _of_one_frame(_heatmap, expected, seen)


def class_overlap(expected: Outputs, seen: Outputs) -> float:
    """Return the share of rows that have the same class, of one frame."""
    return _of_one_frame(_classes, expected, seen)


def _of_one_frame(parts: Any, expected: Outputs, seen: Outputs) -> float:
    name = next(iter(expected))
    agreed, possible = parts(expected[name], seen[name])
    return float(agreed / possible)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A graph's outputs beside those of FP32, frame by frame.

    Attributes:
        groups: Signal and noise of each group of channels, per frame.
        agreed: Of the metric, per frame.
        possible: Likewise.
    """

    groups: Sequence[GroupSums]
    agreed: NDArray[np.float64]
    possible: NDArray[np.float64]

    def sqnr_db(self, counts: Counts) -> NDArray[np.float64]:
        """Return the SQNR of the worst group for each resample of the frames."""
        worst: NDArray[np.float64] = np.min([one.sqnr_db(counts) for one in self.groups], axis=0)
        return worst

    def agreement(self, counts: Counts) -> NDArray[np.float64]:
        """Return the metric for each resample; 1 where neither graph finds anything."""
        possible = counts @ self.possible
        found: NDArray[np.float64] = np.divide(
            counts @ self.agreed, possible, out=np.ones(len(counts)), where=possible > 0
        )
        return found

    def figures(self) -> dict[str, float]:
        """Return both figures over all frames."""
        once = each_frame_once(len(self.agreed))
        return {
            "sqnr_db": round(float(self.sqnr_db(once)[0]), 2),
            "agreement": round(float(self.agreement(once)[0]), 4),
        }


def gain(new: Judged, old: Judged) -> dict[str, Any]:
    """Return by how much one graph is better than another, with the paired 95 % interval."""
    found: dict[str, Any] = {}
    once = each_frame_once(len(new.agreed))
    for figure in ("sqnr_db", "agreement"):
        mine, its = getattr(new, figure), getattr(old, figure)

        def difference(counts: Counts, mine: Any = mine, its: Any = its) -> NDArray[np.float64]:
            with np.errstate(invalid="ignore"):  # both without noise
                return mine(counts) - its(counts)

        found[figure] = round(float(difference(once)[0]), 4)
        found[f"{figure}_ci95"] = bootstrap_ci95(difference, len(new.agreed))
    return found


def sees(reference: Sequence[Outputs], metric: str) -> float:
    """Return the share of frames in which FP32 finds anything to agree on."""
    name = next(iter(reference[0]))
    return float(np.mean([METRICS[metric].sees(frame[name]) for frame in reference]))


def outputs(model: str, frames: str, *, optimized: bool = False) -> list[Outputs]:
    """Run a graph on every frame of an npz file, as it is written unless `optimized`."""
    level = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (feed,) = (value.name for value in session.get_inputs())
    names = [value.name for value in session.get_outputs()]
    with np.load(frames) as arrays:
        return [
            dict(zip(names, session.run(names, {feed: arrays[key]}), strict=True))
            for key in arrays.files
        ]


def judged(expected: Sequence[Outputs], seen: Sequence[Outputs], metric: str) -> Judged:
    """Compare the outputs of a graph with those of FP32.

    Raises:
        ValueError: if outputs are not finite.
    """
    sums = {name: OutputSums(name) for name in expected[0]}
    first = next(iter(expected[0]))
    parts = []
    for wanted, found in zip(expected, seen, strict=True):
        for name, values in wanted.items():
            if not np.isfinite(found[name]).all():
                raise ValueError(f"output {name} is not finite")
            sums[name].add(values, found[name])
        parts.append(METRICS[metric].parts(wanted[first], found[first]))
    agreed, possible = np.array(parts, np.float64).T
    return Judged(
        groups=[group for one in sums.values() for group in one.groups()],
        agreed=agreed,
        possible=possible,
    )


def int8_share(quantized: str, clean: str) -> float:
    """Return the share of the clean model's multiply-accumulates that `quantized` has in INT8.

    A tool may rename, fuse or add nodes, so each graph's own weighted nodes are counted: one is
    INT8 if its data and its weight both come out of a DequantizeLinear, if need be through
    operators that only move or cast values.
    """
    graph = onnx.shape_inference.infer_shapes(onnx.load(quantized), data_prop=True)
    makers = {name: node for node in graph.graph.node for name in node.output}

    def dequantized(name: str) -> bool:
        maker = makers.get(name)
        while maker is not None and maker.op_type in _MOVING:
            maker = makers.get(maker.input[0])
        return maker is not None and maker.op_type == "DequantizeLinear"

    integer = sum(
        macs
        for node, macs in node_macs(graph)
        if dequantized(node.input[0]) and dequantized(node.input[1])
    )
    whole = onnx.shape_inference.infer_shapes(onnx.load(clean), data_prop=True)
    return integer / sum(macs for _, macs in node_macs(whole))
