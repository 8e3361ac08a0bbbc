"""What each layer takes in an engine, by the runtime's own profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.records.digests import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTime:
    """Time of one layer in an inference: the lower quartile of some, us.

    Attributes:
        layer: The node of the graph; of several that run together, the first with weights.
        operator: ONNX operators of all that run together, in order.
        time_us: Of the layer itself.
        conversions_us: Of the changes of precision and layout that it needs.
    """

    layer: str
    operator: str
    time_us: float
    conversions_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDifference(LayerTime):
    """A layer in an engine and in FP32.

    Attributes:
        difference_us: Both times of the engine less both of FP32.
    """

    baseline_time_us: float
    baseline_conversions_us: float
    difference_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineDifference:
    """Where an engine's time differs from FP32's; the four parts add up to the whole.

    Attributes:
        baseline: Id of the FP32 candidate.
        difference_us: Of a whole inference; positive if the engine is slower.
        slower_us: Sum over the layers that are slower, conversions left out.
        faster_us: Sum over the layers that are faster, negative.
        conversions_us: Of all conversions.
        between_us: Of what lies between the layers.
        layers: Those ten that lose most by themselves or by conversions, the largest difference
            first.
    """

    baseline: str
    difference_us: float
    slower_us: float
    faster_us: float
    conversions_us: float
    between_us: float
    layers: tuple[LayerDifference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTimes:
    """The layers of one engine: a profile slows the runtime down, so compare only within it.

    Attributes:
        source: What timed them.
        runs: Inferences behind the times.
        inference_us: A whole inference under the profiler, the sum of its parts.
        conversions_us: All changes of precision and layout in it.
        between_us: What lies between the layers in it.
        count: How many layers there are.
        layers: At most ten, the slowest first.
        against_baseline: None for FP32 itself.
    """

    source: str
    runs: int
    inference_us: float
    conversions_us: float
    between_us: float
    count: int
    layers: tuple[LayerTime, ...]
    against_baseline: BaselineDifference | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """Layer times by candidate; for the others that were profiled, why there are none."""

    profiled: Mapping[str, LayerTimes]
    failed: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpeed:
    """Time of one layer in an inference in INT8 and in float, us, conversions left out."""

    layer: str
    int8_us: float
    float_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpeeds:
    """What the layers of a model take in each precision on this device.

    Attributes:
        source: What timed them.
        floating: The precision of layers in float: fp32 or fp16.
        layers: Those that can run in INT8.
        conversion_ns: Of changing the precision of one value of a tensor.
        slower: Layers that stay in float in every INT8 candidate, since INT8 is slower there.
    """

    digest: Digest
    source: str
    floating: str
    layers: tuple[LayerSpeed, ...]
    conversion_ns: float
    slower: tuple[str, ...] = ()
