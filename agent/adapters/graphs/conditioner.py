"""Graphs made easier to quantize, without changing what they compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx

from agent.core.quantization.calibrators import center_of
from agent.graphs.centering import centerable, centered
from agent.graphs.channels import channel_maxima
from agent.graphs.compute import WEIGHTED
from agent.graphs.equalization import equalized, read
from agent.graphs.pixels import in_levels, picture_levels
from agent.graphs.qdq import SCHEMES, inferred, last_tensors, save
from agent.graphs.smoothing import smoothable, smoothed
from agent.graphs.statistics import Collector
from agent.graphs.weights import least_error_weights, save_weights

if TYPE_CHECKING:
    from agent.ports import Progress, Tensors

Made = tuple[onnx.ModelProto, int]


class OnnxConditioner:
    """Implements `ports.Conditioner`.

    Args:
        threads: Of the runtime; 0 takes all cores.
        every_level: An input with all the values that pixels can have; without it they have to
            be on the frames.
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
        """Return the names of what can be tried under a scheme, in order.

        Where what lies between layers runs in integers, an operator more is a conversion more,
        and asymmetric integers need no centering.
        """
        return ("equalization",) if SCHEMES[scheme].between else tuple(self._steps)

    def apply(self, step: str, model: str, frames: Sequence[Tensors], target: str) -> int:
        """Write target with a step done; return at how many places, writing nothing at 0.

        Raises:
            CalibrationError: "model_failed" on a frame.
        """
        made, changed = self._steps[step](inferred(model), frames)
        if changed:
            save(made, target)
        return changed

    def choose_weights(
        self, model: str, frames: Sequence[Tensors], target: str, progress: Progress
    ) -> tuple[int, int]:
        """Write an npz file of what INT8 is to leave of weights.

        Returns:
            Of how many layers it tells, and how many there are: MatMul, convolutions that are
            not over pictures and those with very many weights are left to the nearest integers.

        Raises:
            CalibrationError: "model_failed" on a frame.
        """
        clean = inferred(model)
        layers = sum(node.op_type in WEIGHTED for node in clean.graph.node)
        found = {}
        for name, values in least_error_weights(clean, frames, self._threads):
            found[name] = values
            progress(len(found), layers, name)
        save_weights(target, found)
        return len(found), layers

    def _equalized(self, clean: onnx.ModelProto, frames: Sequence[Tensors]) -> Made:
        maxima = channel_maxima(clean, read(clean), frames, self._threads)
        return equalized(clean, maxima)

    def _smoothed(self, clean: onnx.ModelProto, frames: Sequence[Tensors]) -> Made:
        maxima = channel_maxima(clean, tuple(smoothable(clean)), frames, self._threads)
        return smoothed(clean, maxima)

    def _centered(self, clean: onnx.ModelProto, frames: Sequence[Tensors]) -> Made:
        names = tuple(place.name for place in centerable(clean))
        if not names:
            return clean, 0
        collector = Collector(clean, names, self._threads)
        with collector.counting() as pool:
            for frame in frames:
                collector.add(frame, pool)
        found = collector.histograms(names, last_tensors(clean.graph))
        centers = {h.name: center for h in found if (center := center_of(h))}
        return centered(clean, centers), len(centers)

    def _on_pixels(self, clean: onnx.ModelProto, frames: Sequence[Tensors]) -> Made:
        shown = (*frames, self._every_level) if self._every_level else frames
        return in_levels(clean, picture_levels(clean, shown, self._threads))
