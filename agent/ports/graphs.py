"""Ports that read or change a model's graph."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from agent.ports.types import Progress

if TYPE_CHECKING:
    from agent.core.fidelity.comparison import Comparison
    from agent.core.frames.input_spec import InputSpec
    from agent.core.quantization.division import Division
    from agent.core.quantization.histogram import TensorHistogram
    from agent.core.quantization.mixed_search import Noise, Placement
    from agent.core.quantization.trial_results import TrialResult
    from agent.core.records import CleanModel
    from agent.ports.types import Tensors


class Intake(Protocol):
    """Cleans a user's model file."""

    def clean(self, path: str, name: str, spec: InputSpec, directory: str) -> CleanModel:
        """Write directory/model.onnx: opset >= 17, batch 1, fixed shapes, named nodes.

        Returns:
            The record, with `digest` and `sha256` empty for the caller to set.

        Raises:
            ModelError: naming the node, operator, input or shape that is not supported.
        """
        ...


class Quantizer(Protocol):
    """Collects histograms of tensors, and converts a graph to a float precision."""

    def collect(
        self, model: str, frames: Iterable[Tensors], count: int, progress: Progress
    ) -> Iterator[TensorHistogram]:
        """Run the model once over the frames and yield a histogram per tensor to quantize.

        Memory must not grow with the number of frames.

        Raises:
            CalibrationError: "no_frames", or "model_failed" on a frame.
        """
        ...

    def convert(
        self, model: str, precision: str, frames: Sequence[Tensors], target: str
    ) -> tuple[str, ...]:
        """Write target in a float precision; return the compute nodes that stay in float32.

        Args:
            model: Path of the clean model.
            precision: fp32 or fp16.
            frames: Inputs on which overflow is looked for.
            target: Path to write.

        Raises:
            QuantizeError: "not_offered" for another precision; "quantized_already" if an integer
                model would have to be converted.
        """
        ...

    def take_as_given(
        self, model: str, scheme: str, target: str
    ) -> tuple[float | None, tuple[str, ...]]:
        """Write target: a model that was quantized already, with its own integers.

        Args:
            model: Path of the clean model, beside which it is if FP32 was made of it.
            scheme: Of the runtime that executes it.
            target: Path to write.

        Returns:
            int8_macs_fraction, None if it can't be counted, and the compute nodes in float.
        """
        ...


class Conditioner(Protocol):
    """Makes a graph easier to quantize without changing its float outputs."""

    def steps(self, scheme: str) -> tuple[str, ...]:
        """Return the names of the steps to try under a scheme, in order."""
        ...

    def check(self, model: str) -> None:
        """Check that a model can be quantized.

        Raises:
            QuantizeError: "quantized_already" if it is an integer model.
        """
        ...

    def apply(self, step: str, model: str, frames: Iterable[Tensors], target: str) -> int:
        """Apply a step and write target; return how many places changed, at 0 nothing is written.

        Raises:
            CalibrationError: "model_failed" on a frame.
        """
        ...

    def choose_weights(
        self, model: str, frames: Division[Tensors], target: str, progress: Progress
    ) -> tuple[int, int]:
        """Choose rounded weights that minimise the output error, and write them to an npz file.

        The means of the layers' inputs are in it too, both for each of `frames.sources`.

        Returns:
            The number of layers with chosen weights, and of all layers.

        Raises:
            CalibrationError: "model_failed" on a frame.
        """
        ...


class QuantizationTrial(Protocol):
    """INT8 graphs of one model and scheme, tried on a few frames before anything is built.

    A graph that is tried is made from other frames than those that judge it; one that is written
    is made from all.
    """

    @property
    def tensors(self) -> Mapping[str, frozenset[str]]:
        """Return every activation that would be quantized, and the layers that need it in INT8."""
        ...

    @property
    def elements(self) -> Mapping[str, int]:
        """Return how many values each of `tensors` has in one inference, where that is known."""
        ...

    def layers(self) -> Mapping[str, tuple[str, int]]:
        """Return (operator, multiply-accumulates) of every layer that can run in INT8."""
        ...

    def weight_noise(self, layers: Collection[str], steps: Collection[str] = ()) -> Noise:
        """Return the noise at the outputs if the weights of some layers alone are rounded to INT8.

        Args:
            layers: Their names.
            steps: Applied to weights besides rounding, as in `Placement`.
        """
        ...

    def activation_noise(self, tensors: Collection[str], calibrator: str) -> Noise:
        """Return the noise at the outputs if some activations alone are quantized."""
        ...

    def evaluate(self, placement: Placement, comparison: Comparison) -> TrialResult:
        """Return the fidelity of the whole graph to FP32, and its agreement frame by frame.

        Args:
            placement: How the graph is made.
            comparison: The judging frames are added to it; the result is of all frames in it.
        """
        ...

    def refit(
        self, placement: Placement, frames: Sequence[Tensors], target: str, progress: Progress
    ) -> int:
        """Solve weights and biases once more on the inputs that INT8 leaves each layer.

        Args:
            placement: What is quantized, without the step "refit"; later ones may have it.
            frames: Inputs of the model; those that this trial is made from.
            target: Path of an npz file to write.
            progress: Called after every layer.

        Returns:
            How many layers were refitted; others have too few positions for their many weights.

        Raises:
            CalibrationError: "model_failed" on a frame.
        """
        ...

    def write(self, placement: Placement, target: str) -> tuple[float, tuple[str, ...]]:
        """Write the graph; return (int8_macs_fraction, nodes kept float).

        Raises:
            QuantizeError: "nothing_quantized" if no compute would run in INT8.
        """
        ...
