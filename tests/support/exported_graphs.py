"""Small networks as exporters write them: what the intake has to make ordinary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Exported:
    """Collects nodes, weights and outputs, and saves them without any shapes inside."""

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self._rng = np.random.default_rng(opset)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def node(
        self, operator: str, *inputs: str, outputs: int = 1, called: str = "", **attributes: object
    ) -> str:
        """Append a node and return its first output; the others end in .1, .2, ..."""
        name = called or f"{operator}_{len(self._nodes)}"
        made = [name, *(f"{name}.{index}" for index in range(1, outputs))]
        self._nodes.append(helper.make_node(operator, inputs, made, name, **attributes))
        return name

    def weight(self, *shape: int) -> str:
        """Add a weight of unit variance over its fan-in and return its name."""
        fan_in = np.prod(shape[1:]) or 1
        values = self._rng.standard_normal(shape) / np.sqrt(fan_in)
        return self.constant(values.astype(np.float32))

    def constant(self, values: object) -> str:
        """Add a constant and return its name."""
        name = f"k{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def conv(
        self, x: str, ins: int, outs: int, side: int = 3, group: int = 1, step: int = 1
    ) -> str:
        """Append a convolution that keeps the size (or divides it by step) and its bias."""
        weight = self.weight(outs, ins // group, side, side)
        return self.node(
            "Conv", x, weight, self.weight(outs), group=group, strides=[step, step],
            pads=[side // 2] * 4,
        )  # fmt: skip

    def save(
        self,
        path: Path,
        shape: Sequence[int | str],
        outputs: Mapping[str, int],
        element: int = TensorProto.FLOAT,
    ) -> str:
        """Write the file; the input is called image, outputs are given with their rank."""
        graph = helper.make_graph(
            self._nodes,
            "exported",
            [helper.make_tensor_value_info("image", element, shape)],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)
                for name, rank in outputs.items()
            ],
            self._weights,
        )
        opset = helper.make_opsetid("", self._opset)
        onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=7), str(path))
        return str(path)


def camera_bytes(path: Path) -> str:
    """Save a network that takes uint8 NHWC and scales it itself: a mask and a class."""
    g = Exported(11)
    x = g.node("Transpose", g.node("Cast", "image", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    x = g.node("Mul", x, g.constant(np.float32(1 / 255)))
    x = g.node("Relu", g.conv(x, 3, 8, step=2))
    mask = g.node("Sigmoid", g.conv(x, 8, 1, side=1))
    pooled = g.node("Flatten", g.node("GlobalAveragePool", x))
    scores = g.node("Softmax", g.node("Gemm", pooled, g.weight(5, 8), transB=1), axis=1)
    return g.save(path, ["N", 32, 32, 3], {mask: 4, scores: 2}, TensorProto.UINT8)


def mobile(path: Path) -> str:
    """Save BatchNorm, ReLU6, hard-swish, depthwise, squeeze-and-excitation: a classifier."""
    g = Exported(13)
    x = g.conv("image", 3, 8, step=2)
    norm = [g.constant(np.linspace(0.5, 1.5, 8).astype(np.float32)) for _ in range(4)]
    x = g.node("BatchNormalization", x, *norm)
    x = g.node("Clip", x, g.constant(np.float32(0)), g.constant(np.float32(6)))
    wide = g.conv(x, 8, 16, side=1)
    gate = g.node("Clip", g.node("Add", wide, g.constant(np.float32(3))),
                  g.constant(np.float32(0)), g.constant(np.float32(6)))  # fmt: skip
    wide = g.node("Mul", wide, g.node("Div", gate, g.constant(np.float32(6))))
    wide = g.conv(wide, 16, 16, group=16)
    small = g.node("Relu", g.conv(g.node("GlobalAveragePool", wide), 16, 4, side=1))
    excite = g.node("HardSigmoid", g.conv(small, 4, 16, side=1), alpha=1 / 6)
    x = g.node("Add", g.conv(g.node("Mul", wide, excite), 16, 8, side=1), x)
    pooled = g.node("Flatten", g.node("AveragePool", x, kernel_shape=[16, 16]))
    scores = g.node("Gemm", pooled, g.weight(10, 8), g.weight(10), transB=1)
    return g.save(path, [1, 3, 32, 32], {scores: 2})


def pyramid(path: Path) -> str:
    """Save SiLU, split and concatenation, pooling, upsampling and two heads, as YOLO has."""
    g = Exported(12)

    def silu(x: str) -> str:
        return g.node("Mul", x, g.node("Sigmoid", x))

    x = silu(g.conv("image", 3, 8, step=2))
    half = g.node("Split", x, outputs=2, axis=1)
    x = g.node("Concat", silu(g.conv(half, 4, 4)), f"{half}.1", half, axis=1)
    deep = silu(g.conv(x, 12, 8, step=2))
    pooled = g.node("MaxPool", deep, kernel_shape=[5, 5], pads=[2] * 4)
    deep = silu(g.conv(g.node("Concat", deep, pooled, axis=1), 16, 8, side=1))
    scales = g.constant(np.float32([1, 1, 2, 2]))
    up = g.node("Resize", deep, g.constant(np.zeros(0, np.float32)), scales, mode="nearest")
    x = silu(g.conv(g.node("Concat", up, x, axis=1), 20, 8))
    heads = []
    for feature in (x, deep):
        head = g.conv(feature, 8, 14, side=1)
        split = g.node("Reshape", head, g.constant(np.int64([1, 2, 7, -1])))
        heads.append(g.node("Transpose", split, perm=[0, 1, 3, 2]))
    return g.save(path, ["N", 3, "H", "W"], dict.fromkeys(heads, 4))


def suppressed(path: Path) -> str:
    """Save (1,3,32,32) to (n,3): the brightest of 16 places, none in a black picture."""
    g = Exported(13)
    brightest = g.node("GlobalMaxPool", g.node("Relu", g.conv("image", 3, 16)))
    scores = g.node("Reshape", brightest, g.constant(np.int64([1, 1, 16])))
    corners = np.float32([[y, x, y + 1, x + 1] for y in range(4) for x in range(4)])
    limits = (np.int64(16), np.float32(0.5), np.float32(2.5))
    kept = g.node(
        "NonMaxSuppression", g.constant(corners[None]), scores, *(g.constant(k) for k in limits)
    )
    return g.save(path, [1, 3, 32, 32], {g.node("Cast", kept, to=TensorProto.FLOAT): 2})


def attention(path: Path) -> str:
    """Save patches, layer normalization, one attention block and a class, as a ViT has."""
    g = Exported(17)
    x = g.node("Conv", "image", g.weight(16, 3, 8, 8), g.weight(16), strides=[8, 8])
    x = g.node("Reshape", x, g.constant(np.int64([1, 16, 16])))
    tokens = g.node("Transpose", x, perm=[0, 2, 1])
    ones = g.constant(np.ones(16, np.float32))
    x = g.node("LayerNormalization", tokens, ones, g.constant(np.zeros(16, np.float32)))
    q, k, v = (
        g.node(
            "Transpose",
            g.node(
                "Reshape",
                g.node("MatMul", x, g.weight(16, 16)),
                g.constant(np.int64([1, 16, 2, 8])),
            ),
            perm=[0, 2, 1, 3],
        )
        for _ in range(3)
    )
    weights = g.node("MatMul", q, g.node("Transpose", k, perm=[0, 1, 3, 2]))
    weights = g.node("Softmax", g.node("Mul", weights, g.constant(np.float32(8**-0.5))), axis=-1)
    mixed = g.node("Transpose", g.node("MatMul", weights, v), perm=[0, 2, 1, 3])
    mixed = g.node("Reshape", mixed, g.constant(np.int64([1, 16, 16])))
    x = g.node("Add", tokens, g.node("MatMul", mixed, g.weight(16, 16)))
    x = g.node("ReduceMean", x, axes=[1], keepdims=0)
    scores = g.node("Gemm", x, g.weight(16, 10), g.weight(10))
    return g.save(path, ["N", 3, 32, 32], {scores: 2})
