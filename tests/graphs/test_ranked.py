"""Outputs with ranked rows are found; the proof is what reversing every list does to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from agent.core.records import RankedRows
from agent.graphs.edits import copy_of
from agent.graphs.ranked import ranked_outputs
from tests.support.onnx_runs import random_inputs, run

MODELS = Path(__file__).parents[1] / "fixtures" / "models"
CELLS, CLASSES, BEST, WIDTH = 60, 5, 20, 8
FLOAT = TensorProto.FLOAT


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


CONSTANTS = {
    "k": np.int64([BEST]), "last": np.int64([-1]), "first": np.int64([1]), "classes": np.int64(CLASSES),
    "second": np.int64([2]), "wide": np.int64([1, BEST, 4]), "flat": np.int64([1, -1]),
    "ids": np.int64([2]), "two": np.int64([2]), "zero": np.int64([0]), "one": np.int64([1]),
    "many": np.int64([50]), "overlap": np.float32([0.5]), "least": np.float32([0.0]),
    "q": weights(WIDTH, WIDTH), "kk": weights(WIDTH, WIDTH, seed=1),
    "v": weights(WIDTH, WIDTH, seed=2), "bias": weights(WIDTH, seed=3), "nothing": np.int64([]),
    "column": np.int64([2]), "row": np.int64([-1]), "rows": np.int64([0]), "half": np.int64([30, 30]),
    "four": np.int64([4]), "whole": np.float32([1.0]), "unpadded": np.int64([0, 0]),
    "table": np.int64([BEST, -1]), "size": np.int64([BEST, 4]), "picture": np.int64([[0]]),
    "blank": np.zeros((1, BEST, 4), np.float32),
    "experts": weights(4, 6, 3, seed=5), "gate": weights(6, 4, seed=6),
}  # fmt: skip
INPUTS = {
    "boxes": [1, CELLS, 4], "scores": [1, CELLS], "logits": [1, CELLS, CLASSES],
    "tokens": [1, CELLS, WIDTH], "vector": [1, 6],
}  # fmt: skip


def node(kind: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), outputs, **attributes)


def graph_of(nodes: list[onnx.NodeProto], outputs: list[str]) -> onnx.ModelProto:
    read = {name for one in nodes for name in one.input}
    read |= {n for one in nodes for a in one.attribute for x in a.g.node for n in x.input}
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info(n, FLOAT, s) for n, s in INPUTS.items() if n in read],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(v, n) for n, v in CONSTANTS.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return shape_inference.infer_shapes(model, data_prop=True)


def gathered(source: str, indices: str, target: str) -> list[onnx.NodeProto]:
    """Return the nodes that exporters write for a gather of rows of four values."""
    return [
        node("Unsqueeze", f"{indices} last", f"{target}_u"),
        node("Expand", f"{target}_u wide", f"{target}_e"),
        node("GatherElements", f"{source} {target}_e", target, axis=1),
    ]


def best_twice() -> onnx.ModelProto:
    """The best cells, then the best pairs of cell and class among them; rows of six values."""
    nodes = [
        node("ReduceMax", "logits", "best", axes=[-1], keepdims=0),
        node("TopK", "best k", "s1 i1", axis=1),
        node("Gather", "logits i1", "l1", axis=1),
        node("Squeeze", "l1 zero", "l2"),
        *gathered("boxes", "i1", "b1"),
        node("Reshape", "l2 flat", "pairs"),
        node("TopK", "pairs k", "s2 i2", axis=-1),
        node("Div", "i2 classes", "cell"),
        node("Mod", "i2 classes", "label"),
        *gathered("b1", "cell", "b2"),
        node("Unsqueeze", "s2 last", "s3"),
        node("Cast", "label", "f", to=FLOAT),
        node("Unsqueeze", "f last", "f3"),
        node("Concat", "b2 s3 f3", "found", axis=-1),
    ]
    return graph_of(nodes, ["found", "label"])


def decoder() -> onnx.ModelProto:
    """Queries picked by score, a layer of self-attention over them, and their heads."""
    nodes = [
        node("TopK", "scores k", "s i", axis=1),
        node("Squeeze", "i zero", "i1"),
        node("Gather", "tokens i1", "t", axis=1),
        node("MatMul", "t q", "query"),
        node("MatMul", "t kk", "key"),
        node("MatMul", "t v", "value"),
        node("Transpose", "key", "turned", perm=[0, 2, 1]),
        node("MatMul", "query turned", "similar"),
        node("Softmax", "similar", "weight", axis=-1),
        node("MatMul", "weight value", "mixed"),
        node("Add", "mixed t", "sum"),
        node("Split", "sum", "left right", axis=2),
        node("Sigmoid", "left", "boxes_out"),
        node("ArgMax", "right", "label", axis=-1, keepdims=0),
        node("ReduceMean", "sum", "scene", axes=[1], keepdims=0),
    ]
    return graph_of(nodes, ["boxes_out", "label", "scene"])


def suppressed() -> onnx.ModelProto:
    """What NonMaxSuppression keeps: as many rows as there are."""
    nodes = [
        node("Transpose", "logits", "by_class", perm=[0, 2, 1]),
        node("NonMaxSuppression", "boxes by_class many overlap least", "kept"),
        node("Gather", "kept second", "cell", axis=1),
        node("Squeeze", "cell one", "cell1"),
        node("Squeeze", "boxes zero", "plain"),
        node("Gather", "plain cell1", "boxes_out", axis=0),
        node("GatherND", "by_class kept", "scores_out"),
        node("Gather", "kept one", "label", axis=1),
    ]
    return graph_of(nodes, ["boxes_out", "scores_out", "label"])


def padded() -> onnx.ModelProto:
    """What is kept, filled up to a fixed number and written to its place in the batch.

    The four best cells of five classes, so that no row is missing.
    """
    nodes = [
        node("Transpose", "logits", "by_class", perm=[0, 2, 1]),
        node("NonMaxSuppression", "boxes by_class four whole least", "kept"),
        node("Gather", "kept second", "cell", axis=1),
        node("Squeeze", "cell one", "cell1"),
        node("Squeeze", "boxes zero", "plain"),
        node("Gather", "plain cell1", "rows_of_boxes", axis=0),
        node("Reshape", "rows_of_boxes row", "values"),
        node("Pad", "values unpadded", "filled"),
        node("Reshape", "filled table", "lines"),
        node("Expand", "lines size", "lines_of_four"),
        node("Unsqueeze", "lines_of_four zero", "whole_picture"),
        node("ScatterND", "blank picture whole_picture", "found"),
    ]
    return graph_of(nodes, ["found"])


def experts() -> onnx.ModelProto:
    """Two of four experts are picked for a picture; their sum has as many values as experts."""
    nodes = [
        node("MatMul", "vector gate", "g"),
        node("TopK", "g two", "s i", axis=1),
        node("Softmax", "s", "share", axis=-1),
        node("Gather", "experts i", "w", axis=0),
        node("Unsqueeze", "vector one", "x1"),
        node("Unsqueeze", "x1 one", "x2"),
        node("MatMul", "x2 w", "each"),
        node("Squeeze", "each column", "each1"),
        node("Unsqueeze", "share last", "share1"),
        node("Mul", "each1 share1", "weighted"),
        node("ReduceSum", "weighted one", "y", keepdims=0),
    ]
    return graph_of(nodes, ["y"])


def by_class() -> onnx.ModelProto:
    """The best cells of each class: lists side by side."""
    return graph_of([node("TopK", "logits k", "s i", axis=1)], ["s"])


def by_level() -> onnx.ModelProto:
    """The best of two levels, one list behind the other."""
    nodes = [
        node("Split", "scores half", "a b", axis=1),
        node("TopK", "a k", "sa ia", axis=1),
        node("TopK", "b k", "sb ib", axis=1),
        node("Concat", "sa sb", "both", axis=1),
    ]
    return graph_of(nodes, ["both"])


def reversed_lists(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with what each sorting operator returns in reverse."""
    found = copy_of(model)
    nodes = []
    for one in found.graph.node:
        nodes.append(one)
        if one.op_type not in {"TopK", "NonMaxSuppression"}:
            continue
        axis = next((a.i for a in one.attribute if a.name == "axis"), 0)
        for index, name in enumerate(list(one.output)):
            one.output[index] = f"{name}:sorted"
            constants = {"from": -1, "to": np.iinfo(np.int64).min, "axis": axis, "by": -1}
            for part, value in constants.items():
                found.graph.initializer.append(
                    numpy_helper.from_array(np.int64([value]), f"{name}:{part}")
                )
            inputs = [f"{name}:sorted", *(f"{name}:{part}" for part in constants)]
            nodes.append(helper.make_node("Slice", inputs, [name]))
    del found.graph.node[:]
    found.graph.node.extend(nodes)
    return found


@pytest.mark.parametrize(
    ("make", "axes", "count"),
    [
        (best_twice, {"found": 1, "label": 1}, BEST),
        (decoder, {"boxes_out": 1, "label": 1}, BEST),
        (suppressed, {"boxes_out": 0, "scores_out": 0, "label": 0}, None),
        (padded, {"found": 1}, BEST),
        (experts, {}, None),
        (by_level, {"both": 1}, 2 * BEST),
    ],
)
def test_the_rows_that_turn_with_the_lists_are_found(make, axes, count):
    model = make()
    assert ranked_outputs(model) == ((RankedRows(axes=axes, count=count),) if axes else ())
    inputs = {name: np.abs(values) for name, values in random_inputs(model).items()}
    if "boxes" in inputs:
        inputs["boxes"][..., 2:] += inputs["boxes"][..., :2]
    outputs, turned = run(model, inputs), run(reversed_lists(model), inputs)
    for value, one, other in zip(model.graph.output, outputs, turned, strict=True):
        if value.name not in axes:
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
            continue
        assert one.shape[axes[value.name]] > 4
        assert not np.allclose(one, other)
        blocks = 2 if make is by_level else 1
        back = np.concatenate(
            [np.flip(part, axes[value.name]) for part in np.split(other, blocks, axes[value.name])],
            axes[value.name],
        )
        np.testing.assert_allclose(one, back, rtol=1e-5, atol=1e-6)


def test_lists_side_by_side_are_no_rows():
    assert ranked_outputs(by_class()) == ()


def test_a_list_that_an_if_or_loop_makes_has_rows_of_varying_number():
    body = helper.make_graph(
        [node("NonMaxSuppression", "boxes turned many overlap least", "kept")], "then", [],
        [helper.make_tensor_value_info("kept", TensorProto.INT64, [None, 3])],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Constant", [], ["none"],
                          value=numpy_helper.from_array(np.zeros((0, 3), np.int64)))],
        "else", [], [helper.make_tensor_value_info("none", TensorProto.INT64, [0, 3])],
    )  # fmt: skip
    nodes = [
        node("Transpose", "logits", "turned", perm=[0, 2, 1]),
        node("ReduceMax", "logits", "most", keepdims=0),
        node("Greater", "most least", "any"),
        node("Squeeze", "any", "some"),
        node("If", "some", "rows_found", then_branch=body, else_branch=other),
        node("Gather", "rows_found first", "label", axis=1),
    ]
    assert ranked_outputs(graph_of(nodes, ["label"])) == (
        RankedRows(axes={"label": 0}, count=None),
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("top_k", (RankedRows(axes={"boxes": 1, "scores": 1}, count=100),)),
        ("two_stage", (RankedRows(axes={"y": 0}, count=None),)),
        ("yolo_head", ()),
        ("if_body", ()),
        ("group_norm", ()),
    ],
)
def test_outputs_of_files_are_found(name, expected):
    model = onnx.load(MODELS / f"{name}.onnx")
    assert ranked_outputs(shape_inference.infer_shapes(model, data_prop=True)) == expected
