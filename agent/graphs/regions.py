"""Which layers hold which activation in INT8, so that a layer can be taken out whole.

Between two weighted layers lies a region: the tensors that other operators connect. Where a
scheme quantizes whole regions, the region is integer as long as one layer beside it is, since
that layer reads or writes integers there; only when all of them are float does it pay, and is
it exact, to leave the region's own operators out too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import onnx

from agent.graphs.compute import WEIGHTED
from agent.graphs.qdq import SCHEMES
from agent.graphs.residuals import residuals

Holders = Mapping[str, frozenset[str]]


def holders(graph: onnx.GraphProto, scheme: str, tensors: Collection[str]) -> Holders:
    """Return for each quantized tensor the layers that keep it in INT8.

    Args:
        graph: Of the clean model, every node named.
        scheme: A key of SCHEMES.
        tensors: The tensors that the scheme quantizes.
    """
    rules = SCHEMES[scheme]
    region = regions(graph) if rules.between else {}
    beside: dict[str, set[str]] = {}
    for node in graph.node:
        if node.op_type in WEIGHTED and node.op_type in rules.operators:
            for name in (*node.input, *(node.output if rules.between else ())):
                beside.setdefault(region.get(name, name), set()).add(node.name)
    if not rules.between:
        for skip, layer in residuals(graph).values():
            beside.setdefault(skip, set()).add(layer)
    return {name: frozenset(beside.get(region.get(name, name), ())) for name in tensors}


def left_out(
    graph: onnx.GraphProto, scheme: str, held: Holders, kept: Collection[str]
) -> tuple[str, ...]:
    """Return the nodes to leave without Q/DQ so that the layers in `kept` run in float."""
    kept = frozenset(kept)
    operators = SCHEMES[scheme].operators
    found = []
    for node in graph.node:
        if node.name in kept:
            found.append(node.name)
        elif node.op_type in operators and node.op_type not in WEIGHTED:
            touched = [held[name] for name in (*node.input, *node.output) if name in held]
            if all(one <= kept for one in touched):
                found.append(node.name)
    return tuple(found)


def regions(graph: onnx.GraphProto) -> dict[str, str]:
    """Return the region of each tensor, named by one of its tensors (union-find)."""
    constants = {tensor.name for tensor in graph.initializer}
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    def join(names: Iterable[str]) -> None:
        first, *others = (root(name) for name in names)
        for other in others:
            parent[other] = first

    for node in graph.node:
        values = [n for n in (*node.input, *node.output) if n and n not in constants]
        if node.op_type in WEIGHTED:
            for name in values:
                root(name)
        elif values:
            join(values)
    return {name: root(name) for name in parent}
