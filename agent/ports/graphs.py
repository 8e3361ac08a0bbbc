"""What is done to a model's graph."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from agent.ports.types import Progress

if TYPE_CHECKING:
    from agent.core.fidelity.comparison import Comparison
    from agent.core.frames.preprocess import InputSpec
    from agent.core.quantization.histogram import TensorHistogram
    from agent.core.quantization.mixed_search import Noise, Placement
    from agent.core.records import CleanModel, Fidelity
    from agent.ports.types import Tensors


class Intake(Protocol):
    """Turns a user's file into an ordinary graph, or says why not."""

    def clean(self, path: str, name: str, spec: InputSpec, directory: str) -> CleanModel:
        """Write directory/model.onnx and return its record (digest left to the caller)."""
        ...


class Quantizer(Protocol):
    """Counts what tensors hold, and puts a float precision into the graph."""

    def collect(
        self, model: str, frames: Iterable[Tensors], count: int, progress: Progress
    ) -> Iterator[TensorHistogram]:
        """Run the model once over the frames, yield a histogram per tensor to quantize.

        Memory must not grow with the number of frames.
        """
        ...

    def convert(
        self, model: str, precision: str, frames: Sequence[Tensors], target: str
    ) -> tuple[str, ...]:
        """Write target in fp32 or fp16; return the compute nodes that stay wider than asked."""
        ...


class Conditioner(Protocol):
    """Makes a graph easier to quantize without changing what it computes."""

    def steps(self, scheme: str) -> tuple[str, ...]:
        """Return the names of what can be tried under a scheme, in order."""
        ...

    def apply(self, step: str, model: str, frames: Sequence[Tensors], target: str) -> int:
        """Write target with a step done; return at how many places, writing nothing at 0."""
        ...

    def choose_weights(
        self, model: str, frames: Sequence[Tensors], target: str, progress: Progress
    ) -> tuple[int, int]:
        """Write what INT8 is to leave of weights so that outputs move least.

        Returns:
            For how many layers it did, and how many there are.
        """
        ...


class QuantizationTrial(Protocol):
    """INT8 graphs of one model and scheme, tried on a few frames before anything is built."""

    @property
    def tensors(self) -> Mapping[str, frozenset[str]]:
        """Return every activation that would be quantized, and the layers that ask for it."""
        ...

    def layers(self) -> Mapping[str, tuple[str, int]]:
        """Return (operator, multiply-accumulates) of every layer that can run in INT8."""
        ...

    def weight_noise(self, layers: Collection[str], steps: Collection[str] = ()) -> Noise:
        """Return the noise at the outputs if the weights of some layers alone are rounded to INT8.

        Args:
            layers: Their names.
            steps: What is done to weights beside rounding, as in `Placement`.
        """
        ...

    def activation_noise(self, ranges: Mapping[str, tuple[float, float]]) -> Noise:
        """Return the noise at the outputs if some activations alone are quantized."""
        ...

    def fidelity(self, placement: Placement, comparison: Comparison) -> Fidelity | None:
        """Return how near the whole graph is to FP32, or None where it holds no number."""
        ...

    def write(self, placement: Placement, target: str) -> tuple[float, tuple[str, ...]]:
        """Write the graph; return (int8_macs_fraction, nodes kept float)."""
        ...
