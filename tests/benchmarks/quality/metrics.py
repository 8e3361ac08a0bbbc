"""How near a quantized graph is to FP32: one evaluator for every tool's graphs.

Nothing of quantd judges here: outputs come from plain ONNX Runtime on the CPU, the formulas are
these few lines. Its graph optimizations are off: they move and merge Q/DQ, which costs some
graphs several dB that TensorRT, for which this scheme is made, would not take. The figures with
them on stand beside as `optimized`, and a note says for how many the verdict is another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from agent.graphs.compute import node_macs

Outputs = Mapping[str, NDArray[np.float32]]
_TOP = 200
_CUT = 0.5
_MOVING = ("Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def heatmap_overlap(expected: Outputs, seen: Outputs) -> float:
    """Return how many of the 200 highest cells of the first output are the same, 0..1."""
    name = next(iter(expected))
    best = [set(np.argsort(-one[name].ravel())[:_TOP].tolist()) for one in (expected, seen)]
    return len(best[0] & best[1]) / len(best[0])


def _heatmap(expected: Sequence[Outputs], seen: Sequence[Outputs]) -> float:
    return float(np.mean([heatmap_overlap(e, s) for e, s in zip(expected, seen, strict=True)]))


def _top1(expected: Sequence[Outputs], seen: Sequence[Outputs]) -> float:
    name = next(iter(expected[0]))
    same = [e[name].argmax() == s[name].argmax() for e, s in zip(expected, seen, strict=True)]
    return float(np.mean(same))


def _iou(expected: Sequence[Outputs], seen: Sequence[Outputs]) -> float:
    """Return the intersection over union of what is above 0.5, over all frames together."""
    name = next(iter(expected[0]))
    both = either = 0
    for e, s in zip(expected, seen, strict=True):
        wanted, found = e[name] > _CUT, s[name] > _CUT
        both += int((wanted & found).sum())
        either += int((wanted | found).sum())
    return both / either if either else 1.0


METRICS: Mapping[str, Callable[[Sequence[Outputs], Sequence[Outputs]], float]] = {
    "heatmap": _heatmap,
    "top1": _top1,
    "iou": _iou,
}
TITLES = {
    "heatmap": "top-200 heatmap overlap",
    "top1": "top-1 agreement",
    "iou": "IoU at 0.5",
}


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


def sqnr_db(expected: Sequence[Outputs], seen: Sequence[Outputs]) -> dict[str, float]:
    """Return 10 log10(signal / noise) of each output, over all frames; infinite without noise."""
    found = {}
    for name in expected[0]:
        signal = noise = 0.0
        for e, s in zip(expected, seen, strict=True):
            wide = e[name].astype(np.float64)
            signal += float(np.square(wide).sum())
            noise += float(np.square(wide - s[name]).sum())
        found[name] = _decibel(signal, noise)
    return found


def _decibel(signal: float, noise: float) -> float:
    if not math.isfinite(noise):
        return -math.inf
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


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


def judged(model: str, clean: str, reference: Sequence[Outputs], frames: str, metric: str) -> dict:
    """Return the figures of one graph against the FP32 outputs on the held-out frames."""
    seen = outputs(model, frames)
    changed = outputs(model, frames, optimized=True)
    found = sqnr_db(reference, seen)
    return {
        "sqnr_db": round(min(found.values()), 2),
        "per_output_sqnr_db": {name: round(value, 2) for name, value in found.items()},
        "agreement": round(METRICS[metric](reference, seen), 4),
        "int8_share": round(int8_share(model, clean), 4),
        "optimized": {
            "sqnr_db": round(min(sqnr_db(reference, changed).values()), 2),
            "agreement": round(METRICS[metric](reference, changed), 4),
        },
    }
