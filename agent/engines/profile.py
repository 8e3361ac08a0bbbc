"""The nodes that ONNX Runtime executed, from its profile of a run."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agent.core.records import Layers

_COMPUTE = re.compile(r"Conv|MatMul|Gemm|Attention")
_CONVERSIONS = re.compile(r"QuantizeLinear$|^Cast$|^Reorder|^Memcpy")
_PRECISIONS = {
    "int8": "int8", "uint8": "int8", "float16": "fp16", "bfloat16": "fp16", "float": "fp32",
}  # fmt: skip
_FUSED = re.compile(r"^TRTKernel|^NvTensorRTRTX|^OpenVINO")
_KERNEL = "_kernel_time"
_SOURCE = "ONNX Runtime's profile of one inference"
_FUSED_NOTE = "; {} of the nodes are whole graphs, whose layers their provider does not report"


def layers_json(events: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the contents of layers.json: which provider ran which node, in order."""
    nodes = [
        {"name": name, "operator": operator, "provider": provider}
        for name, operator, provider, _ in _ran(events)
    ]
    return json.dumps({"schema": 1, "nodes": nodes}, indent=1).encode()


def count(events: Iterable[Mapping[str, Any]]) -> Layers:
    """Count the executed layers, from the events of a profile in which each node ran once.

    The precision of a layer is that of its first input: ConvInteger and QLinearConv read integers;
    a Conv whose Q/DQ was not fused reads floats. A subgraph that a provider fused into one node
    counts as one node, since the provider does not report its layers.
    """
    compute: Counter[str] = Counter()
    providers: Counter[str] = Counter()
    conversions = others = fused = 0
    for _, operator, provider, facts in _ran(events):
        providers[provider] += 1
        if _FUSED.search(operator):
            fused += 1
        elif _CONVERSIONS.search(operator):
            conversions += 1
        elif _COMPUTE.search(operator):
            shapes = facts.get("input_type_shape") or [{}]
            compute[_PRECISIONS.get(next(iter(shapes[0]), ""), "other")] += 1
        else:
            others += 1
    return Layers(
        int8=compute["int8"],
        fp16=compute["fp16"],
        fp32=compute["fp32"],
        conversions=conversions,
        others=others + compute["other"],
        providers=dict(providers),
        told_by=f"{_SOURCE}{_FUSED_NOTE.format(fused) if fused else ''}",
    )


def _ran(events: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """Yield name, operator, provider and facts of every node that ran."""
    for event in events:
        name = str(event.get("name"))
        if event.get("cat") == "Node" and name.endswith(_KERNEL):
            facts = event.get("args", {})
            operator, provider = facts.get("op_name", ""), facts.get("provider", "unknown")
            yield name.removesuffix(_KERNEL), str(operator), str(provider), facts
