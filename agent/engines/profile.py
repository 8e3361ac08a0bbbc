"""What ONNX Runtime really executed, from its own profile of a run."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from agent.core.lineage import Layers

_COMPUTE = re.compile(r"Conv|MatMul|Gemm|Attention")
_CONVERSIONS = re.compile(r"QuantizeLinear$|^Cast$|^Reorder|^Memcpy")
_PRECISIONS = {
    "int8": "int8", "uint8": "int8", "float16": "fp16", "bfloat16": "fp16", "float": "fp32",
}  # fmt: skip
_TOLD_BY = "ONNX Runtime's profile of one inference"


def executed(file: Path) -> Layers:
    """Return what ran, from the JSON that `InferenceSession.end_profiling` names.

    The precision of a layer is that of its first input: ConvInteger and QLinearConv read
    integers, a Conv between a DequantizeLinear and a QuantizeLinear that were not fused reads
    floats, whatever the graph asked for.
    """
    return count(json.loads(file.read_bytes()))


def count(events: Iterable[Mapping[str, Any]]) -> Layers:
    """Return what ran, from the events of a profile in which each node ran once."""
    compute: Counter[str] = Counter()
    providers: Counter[str] = Counter()
    conversions = others = 0
    for event in events:
        if event.get("cat") != "Node" or not str(event.get("name")).endswith("_kernel_time"):
            continue
        facts = event.get("args", {})
        operator = str(facts.get("op_name", ""))
        providers[str(facts.get("provider", "unknown"))] += 1
        if _CONVERSIONS.search(operator):
            conversions += 1
        elif _COMPUTE.search(operator):
            compute[_precision(facts)] += 1
        else:
            others += 1
    return Layers(
        int8=compute["int8"],
        fp16=compute["fp16"],
        fp32=compute["fp32"],
        conversions=conversions,
        others=others + compute["other"],
        providers=dict(providers),
        told_by=_TOLD_BY,
    )


def _precision(facts: Mapping[str, Any]) -> str:
    shapes = facts.get("input_type_shape") or [{}]
    return _PRECISIONS.get(next(iter(shapes[0]), ""), "other")
