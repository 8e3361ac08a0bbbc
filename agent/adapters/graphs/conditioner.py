"""Steps that make graphs easier to quantize without changing their float outputs."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING

import onnx

from agent.core.quantization.calibrators import center_of
from agent.core.quantization.division import Division
from agent.graphs.calibrated import WeightFile, means_by_source
from agent.graphs.centering import centerable, centered
from agent.graphs.channels import channel_maxima
from agent.graphs.compute import WEIGHTED, shapes
from agent.graphs.equalization import equalized, tensors_to_equalize
from agent.graphs.integers import require_float
from agent.graphs.pixels import aligned_to_levels, input_levels
from agent.graphs.qdq import load_inferred, save, tensors_after_last_layers
from agent.graphs.schemes import SCHEMES
from agent.graphs.smoothing import smoothable, smoothed
from agent.graphs.statistics import Collector
from agent.graphs.weights import least_error_weights

if TYPE_CHECKING:
    from agent.ports import Progress, Tensors

Made = tuple[onnx.ModelProto, int]


class OnnxConditioner:
    """Implements `ports.Conditioner`.

    Args:
        threads: Of the runtime; 0 takes all cores.
        every_level: An input with all values that pixels can have; without it they must occur on
            the frames.
    """

    def __init__(self, threads: int, every_level: Tensors | None = None) -> None:
        self._threads = threads
        self._every_level = every_level
        self._steps = {
            "equalization": self._equalized,
            "smoothing": self._smoothed,
            "centering": self._centered,
            "pixels": self._on_pixels,
        }

    def steps(self, scheme: str) -> tuple[str, ...]:
        """See `ports.Conditioner`.

        Where tensors between layers are quantized too, each added operator would add Q/DQ, and
        asymmetric integers need no centering.
        """
        return ("equalization",) if SCHEMES[scheme].between else tuple(self._steps)

    def check(self, model: str) -> None:
        """See `ports.Conditioner`."""
        require_float(onnx.load(model, load_external_data=False).graph)

    def apply(self, step: str, model: str, frames: Iterable[Tensors], target: str) -> int:
        """See `ports.Conditioner`."""
        made, changed = self._steps[step](load_inferred(model), frames)
        if changed:
            save(made, target)
        return changed

    def choose_weights(
        self, model: str, frames: Division[Tensors], target: str, progress: Progress
    ) -> tuple[int, int]:
        """See `ports.Conditioner`.

        MatMul, convolutions that are not 2-D and those with very many weights are left out: they
        are rounded to the nearest codes.
        """
        clean = load_inferred(model)
        layers = sum(node.op_type in WEIGHTED for node in clean.graph.node)
        chosen = 0
        with WeightFile(target, len(frames.sources)) as file:
            for name, found in least_error_weights(clean, frames, self._threads):
                for source, values in enumerate(found):
                    file.add(source, name, values)
                chosen += 1
                progress(chosen, layers, name)
            for source, means in enumerate(means_by_source(clean, frames, self._threads)):
                for name, mean in means.items():
                    file.add_mean(source, name, mean)
        return chosen, layers

    def _equalized(self, clean: onnx.ModelProto, frames: Iterable[Tensors]) -> Made:
        maxima = channel_maxima(clean, tensors_to_equalize(clean), frames, self._threads)
        return equalized(clean, maxima)

    def _smoothed(self, clean: onnx.ModelProto, frames: Iterable[Tensors]) -> Made:
        maxima = channel_maxima(clean, tuple(smoothable(clean)), frames, self._threads)
        return smoothed(clean, maxima)

    def _centered(self, clean: onnx.ModelProto, frames: Iterable[Tensors]) -> Made:
        known = shapes(clean.graph)
        names = tuple(place.name for place in centerable(clean) if place.name in known)
        if not names:
            return clean, 0
        collector = Collector(clean, names, self._threads)
        with collector.counting() as pool:
            for frame in frames:
                collector.add(frame, pool)
        found = collector.histograms(names, tensors_after_last_layers(clean.graph))
        centers = {h.name: center for h in found if (center := center_of(h))}
        return centered(clean, centers), len(centers)

    def _on_pixels(self, clean: onnx.ModelProto, frames: Iterable[Tensors]) -> Made:
        shown = chain(frames, (self._every_level,)) if self._every_level else frames
        return aligned_to_levels(clean, input_levels(clean, shown, self._threads))
