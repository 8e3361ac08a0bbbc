"""From a clean graph to one with its precision in it."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.records.digests import Digest

FP32, AS_GIVEN = "fp32", "as-given"
"""Precisions that candidates can be compared with; the second is of a file with integers in it."""
MIXED = "int8-mixed"
"""The precision that is planned as one candidate, and becomes the members of a front."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionedModel:
    """`model.onnx` made easier to quantize; in float it computes what the clean model does.

    Attributes:
        scheme: The scheme under which the steps were tried.
        steps: Names of the steps that were kept.
        tried: Every step in words: what it changed, and what INT8 gained or lost by it.
        weight_steps: Steps for the weights of INT8 layers; None if an earlier version chose none.
    """

    digest: Digest
    model: Digest
    calibration: Digest
    scheme: str
    steps: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()
    weight_steps: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Histograms of every tensor to be quantized, in `statistics.npz`: one pass, all calibrators.

    They are of two parts of the frames, those that INT8 is made from and those that judge it.

    Attributes:
        model: The conditioned model.
        frames: Frames behind them, those of earlier captures included.
        captures: How many captures these come from.
        extends: The earlier statistics that are in them too.
    """

    digest: Digest
    model: Digest
    calibration: Digest
    tensors: int
    frames: int
    captures: int = 1
    extends: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a precision is made: the graph carries it, not the builder.

    Attributes:
        precision: fp32, fp16, int8, int8-mixed, or as-given: the integers that the user's file
            has already.
        calibrator: minmax, entropy, percentile or mse, or best for that of them with which the whole
            graph is nearest to FP32 (its steps name it); None where nothing is calibrated.
        scheme: "S8S8-FP16" (TensorRT: symmetric, the rest in float16), "S8S8" (ONNX Runtime on
            a GPU) or "U8S8" (on a CPU); None for float.
        alone: True for as-given if no FP32 can be made of the file: it is its own baseline.
        member: Of int8-mixed: its place in the front, from 1, the fastest; 0 for all of them, before
            the front is known.
    """

    precision: str
    calibrator: str | None = None
    scheme: str | None = None
    alone: bool = False
    member: int = 0

    @property
    def is_baseline(self) -> bool:
        """Whether the others are compared with it."""
        return self.precision == FP32 or self.alone


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """What one layer alone costs in INT8, weights and activations.

    Attributes:
        layer: The node.
        operator: Its ONNX operator.
        macs_fraction: Its share of the multiply-accumulates, 0..1.
        sqnr_db: Of the worst group of channels with this layer alone in INT8; None if nothing is lost,
            or for the reason given.
        kept_float: True if it was left in float.
        int8_us: Its time in an inference in INT8, us; None where no profile could be taken. Changes
            of precision are left out, here and in `float_us`.
        float_us: Its time in float.
        slower: True if it stays in float because INT8 is slower there.
        sqnr_db_reason: Why that was not measured; empty if it was.
    """

    layer: str
    operator: str
    macs_fraction: float
    sqnr_db: float | None
    kept_float: bool
    int8_us: float | None = None
    float_us: float | None = None
    slower: bool = False
    sqnr_db_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How a graph got its precision.

    Attributes:
        steps: What was done for INT8 beside rounding, in order.
        kept_float: Names of the compute nodes left wider than the precision on purpose.
        evaluations: How often a whole graph was evaluated to find them.
        sensitivity: The layers that cost most in INT8, worst first, and those that INT8 makes
            slower, where that was measured.
        weighed_by: What the time of layers in INT8 and in float is taken from; "" if it played no
            role.
    """

    steps: tuple[str, ...]
    kept_float: tuple[str, ...]
    evaluations: int
    sensitivity: tuple[LayerCost, ...]
    weighed_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedModel(Quantization):
    """`model.onnx` with its precision in the graph.

    Attributes:
        int8_macs_fraction: Share of the multiply-accumulates that run in INT8, 0..1; None where
            it can't be counted.
    """

    digest: Digest
    model: Digest
    statistics: Digest | None
    recipe: Recipe
    int8_macs_fraction: float | None = 0.0
    steps: tuple[str, ...] = ()
    kept_float: tuple[str, ...] = ()
    evaluations: int = 0
    sensitivity: tuple[LayerCost, ...] = ()
    weighed_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontMember:
    """One set of layers in float.

    Attributes:
        kept_float: The layers.
        time_share: Predicted time of an inference over that of the first member; None
            where no layer was timed.
        sqnr_db: Of the worst group of channels, predicted from the noise of single layers, or found
            where none was tried alone; None if nothing is lost.
        meets_limits: Whether the whole graph met the limits on the frames of the search; None if it
            was not evaluated.
    """

    kept_float: tuple[str, ...]
    time_share: float | None
    sqnr_db: float | None
    meets_limits: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedFront:
    """Graphs between all INT8 and the limits on fidelity, none slower and less faithful than another.

    Attributes:
        members: The fastest first; the last one meets the limits.
        calibrator: The one for the ranges of all members.
        steps: Applied to the weights of INT8 layers.
        evaluations: How often a whole graph was evaluated.
        layers: Every layer that can run in INT8, the costliest first; `kept_float` is of the last
            member. Only those that INT8 makes slower where none was tried alone.
        weighed_by: What the time of layers is taken from.
    """

    digest: Digest
    model: Digest
    statistics: Digest
    members: tuple[FrontMember, ...]
    calibrator: str
    steps: tuple[str, ...]
    evaluations: int
    layers: tuple[LayerCost, ...]
    weighed_by: str
