"""Which layer of a graph each node of an optimized copy of it serves.

ONNX Runtime renames what it fuses or moves. It keeps the names of tensors in some cases, of nodes
in others, and adds "_token_3" and the like where a name is taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from agent.core.measurement.layer_times import GraphNode

_QDQ = ("QuantizeLinear", "DequantizeLinear")
_CONVERSIONS = (*_QDQ, "ReorderInput", "ReorderOutput", "MemcpyToHost", "MemcpyFromHost")
_ADDED = ("Transpose", "Cast")  # conversions, unless they are the graph's own
_TOKEN = re.compile(r"(_token_\d+)+$")


@dataclass(frozen=True, slots=True)
class Flow:
    """A graph without Q/DQ and constants.

    Attributes:
        nodes: In order.
        origins: From each tensor to the one that it is before Q/DQ, or to the output of the model
            that it is behind Q/DQ.
        tensors: From each node to its first output, as an origin.
    """

    nodes: tuple[GraphNode, ...]
    origins: Mapping[str, str]
    tensors: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Attribution:
    """What a node is for.

    Attributes:
        tensor: What it computes, or what the layer computes that needs the conversion; "" if that
            is unknown.
    """

    tensor: str
    conversion: bool


UNKNOWN = Attribution("", conversion=False)


def flow(graph: onnx.GraphProto) -> Flow:
    """Return the layers of a graph that may have Q/DQ."""
    before = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type in _QDQ and node.input and node.output
    }
    ends = {_root(value.name, before): value.name for value in graph.output}
    made = {name for node in graph.node for name in node.output if name}
    origins = {}
    for name in (*made, *(value.name for value in graph.input)):
        root = _root(name, before)
        origins[name] = ends.get(root, root)
    nodes = tuple(
        GraphNode(
            name=node.name,
            operator=node.op_type,
            inputs=tuple(origins[name] for name in node.input if name in origins),
            outputs=tuple(origins[name] for name in node.output if name),
        )
        for node in graph.node
        if node.op_type not in _QDQ
    )
    return Flow(nodes, origins, {node.name: node.outputs[0] for node in nodes if node.outputs})


def attribute(executed: onnx.GraphProto, source: Flow) -> dict[str, Attribution]:
    """Return, by node name, what each node of an optimized graph is for.

    Args:
        executed: As the runtime wrote it; nodes of subgraphs belong to their outer node.
        source: Of the graph before.
    """
    return _Attributor(executed, source).found()


class _Attributor:
    def __init__(self, executed: onnx.GraphProto, source: Flow) -> None:
        self._nodes = executed.node
        self._source = source
        self._names = {node.name for node in executed.node}
        self._readers: dict[str, list[int]] = {}
        self._makers = {name: i for i, node in enumerate(self._nodes) for name in node.output}
        for index, node in enumerate(self._nodes):
            for name in node.input:
                self._readers.setdefault(name, []).append(index)
        self._converts = [self._is_conversion(node) for node in self._nodes]
        self._tensors = [
            "" if converts else self._own_tensor(node)
            for node, converts in zip(self._nodes, self._converts, strict=True)
        ]

    def found(self) -> dict[str, Attribution]:
        return {
            node.name: Attribution(self._tensors[i] or self._served(i), self._converts[i])
            for i, node in enumerate(self._nodes)
        }

    def _original(self, node: onnx.NodeProto) -> str:
        """Return the name that a node has in the source graph; "" if it has none."""
        name: str = node.name
        if name in self._source.tensors:
            return name
        stem = _TOKEN.sub("", name)
        return stem if stem in self._source.tensors and stem not in self._names else ""

    def _is_conversion(self, node: onnx.NodeProto) -> bool:
        added = node.op_type in _ADDED and not self._original(node)
        return added or node.op_type in _CONVERSIONS

    def _own_tensor(self, node: onnx.NodeProto) -> str:
        origins = self._source.origins
        kept = next((origins[name] for name in node.output if name in origins), "")
        stem = node.name.removesuffix("_nchwc")  # named after what it computes
        return kept or self._source.tensors.get(self._original(node), "") or origins.get(stem, "")

    def _served(self, index: int) -> str:
        """Return the tensor of the layer that a node without one of its own serves.

        Between a layer in INT8 or in blocks of channels and one that is not, it is the latter.
        """
        ahead = not _enters(self._nodes[index])
        return self._next(index, ahead=ahead) or self._next(index, ahead=not ahead)

    def _next(self, index: int, *, ahead: bool) -> str:
        """Return the tensor of the nearest node before or behind one that computes a known one."""
        seen, queue = {index}, [index]
        while queue:
            node = self._nodes[queue.pop(0)]
            names = node.output if ahead else node.input
            near = [i for name in names if name for i in self._beside(name, ahead=ahead)]
            for one in near:
                if self._tensors[one]:
                    return self._tensors[one]
            queue += [one for one in dict.fromkeys(near) if one not in seen]
            seen.update(near)
        return ""

    def _beside(self, name: str, *, ahead: bool) -> list[int]:
        if ahead:
            return self._readers.get(name, [])
        return [self._makers[name]] if name in self._makers else []


def _enters(node: onnx.NodeProto) -> bool:
    """Return whether a conversion leads into INT8, into blocks of channels or to channels last."""
    if node.op_type == "Transpose":
        order = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
        return order[-1:] == [1]
    return node.op_type in {"QuantizeLinear", "ReorderInput"}


def _root(name: str, before: Mapping[str, str]) -> str:
    seen = {name}
    while (name := before.get(name, name)) not in seen:
        seen.add(name)
    return name
