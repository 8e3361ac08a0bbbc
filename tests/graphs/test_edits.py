"""Small changes to graphs."""

from __future__ import annotations

import numpy as np

from agent.graphs.edits import copy_of, drop_unused_initializers, set_inputs
from agent.graphs.qdq import load_inferred
from tests.support import quant_graphs


def test_edits_leave_the_other_initializers_in_place(tmp_path):
    graph = copy_of(load_inferred(quant_graphs.detector(tmp_path / "m.onnx"))).graph
    layer = next(node for node in graph.node if node.op_type == "Conv")
    before = list(graph.initializer)
    for _ in range(2):
        set_inputs(graph, [(layer, np.zeros(1))], 1, "weight")
    drop_unused_initializers(graph)
    *others, added = graph.initializer
    assert added.name == layer.input[1]
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in before if tensor.name in read]
    assert len(kept) < len(before)
    assert len(others) == len(kept)
    assert all(a is b for a, b in zip(others, kept, strict=True))
