"""Schemes of Q/DQ placement, one for each kind of runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from onnxruntime.quantization.quant_utils import QuantType

from agent.graphs.compute import WEIGHTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """Q/DQ placement for one runtime.

    Attributes:
        activation: Integer type of activations; weights are int8, one scale per channel.
        operators: Operators that get Q/DQ.
        between: True if tensors between weighted layers are quantized too; if not, the skip input
            of a residual addition still is.
        half: True if float parts are float16.
        options: `extra_options` of ONNX Runtime's QDQQuantizer.
    """

    activation: Any
    operators: tuple[str, ...]
    between: bool
    half: bool
    options: Mapping[str, object]


SCHEMES: dict[str, Scheme] = {
    # ONNX Runtime on a CPU fuses DQ -> operator -> Q, so outputs are quantized too, and so are
    # all operators between convolutions that have an integer kernel: ConvTranspose has none and
    # would only be rounded and then computed in float.
    "U8S8": Scheme(
        activation=QuantType.QUInt8,
        operators=(
            "Add", "AveragePool", "Clip", "Concat", "Conv", "Flatten", "Gather", "Gemm",
            "GlobalAveragePool", "LeakyRelu", "MatMul", "MaxPool", "Mul", "Pad", "Relu",
            "Reshape", "Resize", "Sigmoid", "Slice", "Softmax", "Split", "Squeeze", "Transpose",
            "Unsqueeze",
        ),
        between=True,
        half=False,
        options={"WeightSymmetric": True},
    ),
    # TensorRT fuses Q/DQ on the inputs of weighted layers and propagates it through the others
    # itself; Q/DQ between a convolution and its activation would break that fusion. Its parser
    # does not support an int32 DequantizeLinear, so biases stay in float.
    "S8S8": Scheme(
        activation=QuantType.QInt8,
        operators=WEIGHTED,
        between=False,
        half=False,
        options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": list(WEIGHTED),
        },
    ),
}  # fmt: skip
SCHEMES["S8S8-FP16"] = replace(SCHEMES["S8S8"], half=True)  # what TensorRT itself executes
