"""Predict the latency of a graph from a GPU's peak rates, by its roofline. Pure and numpy-free.

It is the last resort of prediction: on a device that has measured nothing yet, with a runtime
that can't try a graph before it is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

from agent.core.records import CleanModel

_REACHED = 1 / 4
WIDTH = log(4)
"""Half width of the interval, as a logarithm: from the peak itself to a sixteenth of it.

Source: YOLOv8 n, s and m on an Orin Nano (github.com/the0807/YOLOv8-ONNX-TensorRT: FP16 7.3, 11.4
    and 23.6 ms, INT8 5.8, 8.2 and 17.1 ms) take 3 to 13 times what their multiply-accumulates
    would at the board's quoted peak, the small ones most. None of it was measured by quantd.
"""
_BYTES: Mapping[str, float] = {"fp32": 4, "fp16": 2, "int8": 1}
_OF_SPARSE_INT8: Mapping[str, float] = {"fp32": 1 / 64, "fp16": 1 / 8, "int8": 1 / 4}
"""Multiply-accumulates per quoted operation: two operations each, and half of them for want of
sparsity; FP16 has half of INT8's rate. FP32 as it is built, without TF32, is for the CUDA cores.

Source: NVIDIA Ampere GA102 whitepaper, table of peak rates by precision; for FP32 NVIDIA Jetson AGX
    Orin Series technical brief v1.2: 5.3 TFLOPS beside 170 sparse TOPS of the GPU.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Peak rates of a GPU, by its maker.

    Attributes:
        int8_sparse_ops_per_s: With structured sparsity.
        memory_bytes_per_s: Between memory and GPU.
    """

    int8_sparse_ops_per_s: float
    memory_bytes_per_s: float


def expected_ms(model: CleanModel, precision: str, batch: int, peak: Peak) -> float | None:
    """Return the expected latency, ms: four times the roofline; None where nothing is computed.

    Args:
        model: For its multiply-accumulates, weights and activations (counted as FP32).
        precision: fp32, fp16 or int8.
        batch: Frames per inference.
        peak: Rates of the device.

    Source: Williams, Waterman and Patterson, "Roofline" (CACM 52, 2009): the longer of the times
        to compute and to move data, here with every activation written once and read once.
    """
    moved = (model.weight_bytes + 2 * batch * model.activation_bytes) * _BYTES[precision] / 4
    macs_per_s = peak.int8_sparse_ops_per_s * _OF_SPARSE_INT8[precision]
    least_s = max(batch * model.macs / macs_per_s, moved / peak.memory_bytes_per_s)
    return least_s * 1e3 / _REACHED or None
