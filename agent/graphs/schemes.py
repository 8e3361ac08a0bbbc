"""Schemes of Q/DQ placement, one for each kind of runtime."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.graphs.compute import WEIGHTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """Q/DQ placement for one runtime.

    Attributes:
        symmetric: True for activations in int8 around zero, False for uint8 with a zero point;
            weights are int8, one scale per channel.
        operators: Operators that get Q/DQ.
        between: True if tensors between weighted layers are quantized too; if not, the skip input
            of a residual addition still is.
        biases: True for biases in int32.
        half: True if float parts are float16.
    """

    symmetric: bool
    operators: tuple[str, ...]
    between: bool
    biases: bool
    half: bool


SCHEMES: dict[str, Scheme] = {
    # ONNX Runtime on a CPU fuses DQ -> operator -> Q, so outputs are quantized too, and so are
    # all operators between convolutions that have an integer kernel: ConvTranspose has none and
    # would only be rounded and then computed in float.
    "U8S8": Scheme(
        symmetric=False,
        operators=(
            "Add", "AveragePool", "Clip", "Concat", "Conv", "Flatten", "Gather", "Gemm",
            "GlobalAveragePool", "LeakyRelu", "MatMul", "MaxPool", "Mul", "Pad", "Relu",
            "Reshape", "Resize", "Sigmoid", "Slice", "Softmax", "Split", "Squeeze", "Transpose",
            "Unsqueeze",
        ),
        between=True,
        biases=True,
        half=False,
    ),
    # TensorRT fuses Q/DQ on the inputs of weighted layers and propagates it through the others
    # itself; Q/DQ between a convolution and its activation would break that fusion. Its parser
    # does not support an int32 DequantizeLinear, so biases stay in float.
    "S8S8": Scheme(
        symmetric=True,
        operators=WEIGHTED,
        between=False,
        biases=False,
        half=False,
    ),
}  # fmt: skip
SCHEMES["S8S8-FP16"] = replace(SCHEMES["S8S8"], half=True)  # what TensorRT itself executes
