"""The nodes that ONNX Runtime executed, and their times, from its profile of some runs."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.core.records import Layers
from agent.engines.kernels import RunTimes

_COMPUTE = re.compile(r"Conv|MatMul|Gemm|Attention")
_CONVERSIONS = re.compile(r"QuantizeLinear$|^Cast$|^Reorder|^Memcpy")
_PRECISIONS = {
    "int8": "int8", "uint8": "int8", "float16": "fp16", "bfloat16": "fp16", "float": "fp32",
}  # fmt: skip
_FUSED = re.compile(r"^TRTKernel|^NvTensorRTRTX|^OpenVINO")
_KERNEL = "_kernel_time"
_INFERENCE = "model_run"
_SOURCE = "ONNX Runtime's profile of one inference"
_FUSED_NOTE = "; {} of the nodes are whole graphs, whose layers their provider does not report"


def read_events(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the events of a profile, one a line; lines that are not an event are left out."""
    with path.open("rb") as lines:
        for line in lines:
            try:
                event = json.loads(line.strip().rstrip(b","))
            except (ValueError, RecursionError):  # the brackets around the events, or damage
                continue
            if isinstance(event, dict):
                yield event


def run_times(events: Iterable[Mapping[str, Any]]) -> Iterator[RunTimes]:
    """Yield each inference; the event of a whole one follows those of its nodes.

    A node that runs inside another one, as those of a Loop do, is part of the outer one's time.
    """
    spans: list[tuple[int, int, tuple[str, str]]] = []
    for event in events:
        begin_us, length_us = event.get("ts"), event.get("dur")
        if not isinstance(begin_us, int) or not isinstance(length_us, int) or length_us < 0:
            continue
        if event.get("cat") == "Session" and event.get("name") == _INFERENCE:
            yield RunTimes(float(length_us), _outermost(spans))
            spans = []
        for name, operator, _, _ in _ran([event]):
            spans.append((begin_us, -length_us, (operator, name)))


def _outermost(spans: list[tuple[int, int, tuple[str, str]]]) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    end_us = -math.inf
    for begin_us, minus_us, kernel in sorted(spans, key=lambda one: one[:2]):
        if begin_us >= end_us:
            end_us = begin_us - minus_us
            found[kernel] = found.get(kernel, 0.0) - minus_us
    return found


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
            compute[_PRECISIONS.get(_first_type(facts.get("input_type_shape")), "other")] += 1
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


def _first_type(shapes: object) -> str:
    """Return the type of the first input, from the shapes by type of each input."""
    first = shapes[0] if isinstance(shapes, list) and shapes else {}
    return str(next(iter(first), "")) if isinstance(first, dict) else ""


def _ran(events: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """Yield name, operator, provider and facts of every node that ran."""
    for event in events:
        name = str(event.get("name"))
        if event.get("cat") == "Node" and name.endswith(_KERNEL):
            facts = event.get("args")
            facts = facts if isinstance(facts, dict) else {}
            operator, provider = facts.get("op_name", ""), facts.get("provider", "unknown")
            yield name.removesuffix(_KERNEL), str(operator), str(provider), facts
