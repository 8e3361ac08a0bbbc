"""Which activations are in INT8 because of which layers, so that a layer can be left in float.

A region is the set of tensors that operators between weighted layers connect. Where a scheme
quantizes whole regions, a region stays in INT8 while any adjacent layer is, since that layer reads
or writes integers there. Only when all of them are float are its own operators left in float too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import onnx

from agent.graphs.compute import WEIGHTED
from agent.graphs.marks import tail
from agent.graphs.residuals import residuals
from agent.graphs.schemes import SCHEMES

LayersByTensor = Mapping[str, frozenset[str]]


def layers_by_tensor(
    graph: onnx.GraphProto, scheme: str, tensors: Collection[str]
) -> LayersByTensor:
    """Return, for each quantized tensor, the layers that need it in INT8.

    Args:
        graph: Of the clean model, every node named.
        scheme: A key of SCHEMES.
        tensors: The tensors that the scheme quantizes.
    """
    rules = SCHEMES[scheme]
    region = regions(graph, tail(graph, rules)) if rules.between else {}
    beside: dict[str, set[str]] = {}
    for node in graph.node:
        if node.op_type in WEIGHTED and node.op_type in rules.operators:
            for name in (*node.input, *(node.output if rules.between else ())):
                beside.setdefault(region.get(name, name), set()).add(node.name)
    if not rules.between:
        for skip, layer in residuals(graph).values():
            beside.setdefault(skip, set()).add(layer)
    return {name: frozenset(beside.get(region.get(name, name), ())) for name in tensors}


def float_nodes(
    graph: onnx.GraphProto, scheme: str, layers: LayersByTensor, kept: Collection[str]
) -> tuple[str, ...]:
    """Return the nodes to leave without Q/DQ so that the layers in `kept` run in float.

    Args:
        graph: Of the clean model.
        scheme: A key of SCHEMES.
        layers: From `layers_by_tensor`.
        kept: Names of the layers.
    """
    kept = frozenset(kept)
    operators = SCHEMES[scheme].operators
    found = []
    for node in graph.node:
        if node.name in kept:
            found.append(node.name)
        elif node.op_type in operators and node.op_type not in WEIGHTED:
            touched = [layers[name] for name in (*node.input, *node.output) if name in layers]
            if all(one <= kept for one in touched):
                found.append(node.name)
    return tuple(found)


def regions(graph: onnx.GraphProto, apart: Collection[str] = ()) -> dict[str, str]:
    """Return the region of each tensor, identified by one of its tensors (union-find).

    Args:
        graph: Of the clean model.
        apart: Tensors that are not connected with those they are computed from.
    """
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
        if node.op_type in WEIGHTED or any(name in apart for name in node.output):
            for name in values:
                root(name)
        elif values:
            join(values)
    return {name: root(name) for name in parent}
