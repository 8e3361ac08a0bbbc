"""Small graphs as the intake leaves them: opset 17, IR 8, fixed shapes, named nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def weights(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    """Return a float32 initializer of unit variance over its fan-in."""
    rng = np.random.default_rng([seed, *shape])
    fan_in = np.prod(shape[1:]) or 1
    return numpy_helper.from_array(
        (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32), name
    )


def _saved(
    path: Path,
    nodes: list[onnx.NodeProto],
    initializers: list[onnx.TensorProto],
    shapes: tuple[list[int], list[int]],
) -> str:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes[1])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return str(path)


def detector(path: Path) -> str:
    """Save Conv-Relu, a residual block, ConvTranspose and a Sigmoid head: (1,3,32,32) to (1,2,64,64)."""
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], "stem_relu"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], "block", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c1", "r0"], ["a"], "residual"),
        helper.make_node("Relu", ["a"], ["r1"], "residual_relu"),
        helper.make_node("ConvTranspose", ["r1", "w2"], ["u"], "up", strides=[2, 2]),
        helper.make_node("Conv", ["u", "w3", "b3"], ["logits"], "head"),
        helper.make_node("Sigmoid", ["logits"], ["y"], "score"),
    ]
    initializers = [
        weights("w0", 16, 3, 3, 3), weights("b0", 16), weights("w1", 16, 16, 3, 3, seed=1),
        weights("b1", 16, seed=1), weights("w2", 16, 8, 2, 2), weights("w3", 2, 8, 1, 1),
        weights("b3", 2),
    ]  # fmt: skip
    return _saved(path, nodes, initializers, ([1, 3, 32, 32], [1, 2, 64, 64]))


def classifier(path: Path) -> str:
    """Save Conv-Relu-GlobalAveragePool-Gemm: (1,3,16,16) to (1,10)."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], "relu"),
        helper.make_node("GlobalAveragePool", ["r0"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "w1", "b1"], ["y"], "logits", transB=1),
    ]
    initializers = [weights("w0", 8, 3, 3, 3), weights("w1", 10, 8), weights("b1", 10)]
    return _saved(path, nodes, initializers, ([1, 3, 16, 16], [1, 10]))


def inverted(path: Path, spread: float = 6.0) -> str:
    """Save an inverted residual block, (1,8,16,16) to (1,8,16,16), with uneven channels inside.

    Args:
        path: Where.
        spread: The channels between expansion and projection differ by up to 2^spread.
    """
    rng = np.random.default_rng(7)
    size = np.exp2(rng.uniform(-spread / 2, spread / 2, 24)).astype(np.float32)
    expand = numpy_helper.to_array(weights("w", 24, 8, 1, 1)) * size.reshape(-1, 1, 1, 1)
    project = numpy_helper.to_array(weights("w", 8, 24, 1, 1)) / size.reshape(1, -1, 1, 1)
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], "stem"),
        helper.make_node("Conv", ["c0", "w1", "b1"], ["c1"], "expand"),
        helper.make_node("Relu", ["c1"], ["r1"], "expand_relu"),
        helper.make_node(
            "Conv", ["r1", "w2", "b2"], ["c2"], "depthwise", group=24, pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["c2"], ["r2"], "depthwise_relu"),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], "project"),
        helper.make_node("Add", ["c0", "c3"], ["a"], "residual"),
        helper.make_node("Conv", ["a", "w4"], ["y"], "head"),
    ]
    initializers = [
        weights("w0", 8, 8, 1, 1),
        numpy_helper.from_array(expand, "w1"),
        numpy_helper.from_array(size * numpy_helper.to_array(weights("b", 24)), "b1"),
        weights("w2", 24, 1, 3, 3, seed=2),
        numpy_helper.from_array(size * numpy_helper.to_array(weights("b", 24, seed=3)), "b2"),
        numpy_helper.from_array(project, "w3"),
        weights("b3", 8),
        weights("w4", 8, 8, 1, 1, seed=4),
    ]
    return _saved(path, nodes, initializers, ([1, 8, 16, 16], [1, 8, 16, 16]))


def affine(path: Path) -> str:
    """Save convolutions followed by scales and shifts of every kind that can be taken in."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], "conv"),
        helper.make_node("Mul", ["k", "c0"], ["m"], "scale"),
        helper.make_node("Sub", ["m", "t1"], ["s"], "shift"),
        helper.make_node("Sub", ["k", "s"], ["n"], "mirror"),
        helper.make_node("ConvTranspose", ["n", "w1", "b1"], ["c1"], "up"),
        helper.make_node("BatchNormalization", ["c1", "g", "t", "mean", "v"], ["bn"], "norm"),
        helper.make_node("Div", ["bn", "g4"], ["d"], "divide"),
        helper.make_node("Add", ["d", "t3"], ["y"], "last"),
    ]
    channel = np.linspace(0.5, 2, 4).astype(np.float32)
    initializers = [
        weights("w0", 4, 3, 1, 1),
        weights("w1", 4, 4, 1, 1),
        weights("b1", 4),
        numpy_helper.from_array(np.float32(-1.5), "k"),
        *(numpy_helper.from_array(channel * k, name) for k, name in
          ((1.0, "g"), (0.3, "mean"), (2.0, "v"))),
        numpy_helper.from_array(np.float32([0.7]), "t1"),
        numpy_helper.from_array(channel, "t"),
        numpy_helper.from_array(channel.reshape(1, 4, 1, 1), "g4"),
        numpy_helper.from_array(channel.reshape(4, 1, 1) - 1, "t3"),
    ]  # fmt: skip
    return _saved(path, nodes, initializers, ([1, 3, 5, 5], [1, 4, 5, 5]))


def interrupted(path: Path, side: int = 32) -> str:
    """Save two convolutions with layers between them that U8S8 leaves in float.

    Conv-Relu-Softmax-Resize-Conv: (1,3,side,side) to (1,4,2*side,2*side).
    """
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], "first_relu"),
        helper.make_node("Softmax", ["r0"], ["s"], "soft", axis=1),
        helper.make_node("Resize", ["s", "", "scales"], ["u"], "grow", mode="linear"),
        helper.make_node("Conv", ["u", "w1"], ["y"], "second", pads=[1, 1, 1, 1]),
    ]
    initializers = [
        weights("w0", 16, 3, 3, 3), weights("b0", 16), weights("w1", 4, 16, 3, 3),
        numpy_helper.from_array(np.float32([1, 1, 2, 2]), "scales"),
    ]  # fmt: skip
    return _saved(path, nodes, initializers, ([1, 3, side, side], [1, 4, 2 * side, 2 * side]))


def elementwise(path: Path) -> str:
    """Save a graph without anything to compute in INT8."""
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["s"], "sigmoid"),
        helper.make_node("Mul", ["s", "x"], ["y"], "swish"),
    ]
    return _saved(path, nodes, [], ([1, 3, 8, 8], [1, 3, 8, 8]))


def scaled(path: Path, factor: float) -> str:
    """Save x * factor, then a Conv: its input is dead at 0, infinite at a huge factor."""
    nodes = [
        helper.make_node("Mul", ["x", "k"], ["m"], "scale"),
        helper.make_node("Conv", ["m", "w0"], ["y"], "conv"),
    ]
    initializers = [
        numpy_helper.from_array(np.float32(factor), "k"),
        weights("w0", 4, 3, 1, 1),
    ]
    return _saved(path, nodes, initializers, ([1, 3, 8, 8], [1, 4, 8, 8]))
