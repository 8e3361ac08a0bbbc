"""Files as ONNX Runtime's own quantizer writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from tests.support.onnx_runs import Inputs, random_inputs

_TYPES = {"U8": QuantType.QUInt8, "S8": QuantType.QInt8}
KINDS = [f"{kind}-{type_}" for kind in ("QDQ", "QOperator") for type_ in _TYPES] + ["dynamic"]


class _Frames(CalibrationDataReader):  # type: ignore[misc]  # it has no types
    def __init__(self, model: onnx.ModelProto) -> None:
        self._left: Iterator[Inputs] = iter([random_inputs(model, seed) for seed in range(6)])

    def get_next(self) -> Any:
        return next(self._left, None)


def quantized(source: str, kind: str, *, per_channel: bool = True) -> onnx.ModelProto:
    """Return a model quantized by ONNX Runtime, of one of KINDS."""
    target = str(Path(source).with_name(f"{kind}.onnx"))
    form, _, activation = kind.partition("-")
    if form == "dynamic":
        # ConvInteger takes unsigned weights in every version, signed ones in new ones only
        quantize_dynamic(source, target, per_channel=per_channel, weight_type=QuantType.QUInt8)
        return onnx.load(target)
    quantize_static(
        source,
        target,
        _Frames(onnx.load(source)),
        quant_format=QuantFormat[form],
        activation_type=_TYPES[activation],
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
        extra_options={"ActivationSymmetric": activation == "S8", "WeightSymmetric": True},
    )
    return onnx.load(target)
