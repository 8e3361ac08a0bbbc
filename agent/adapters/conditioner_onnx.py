"""Graphs made easier to quantize, without changing what they compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.graphs.channels import channel_maxima
from agent.graphs.equalization import equalized, read
from agent.graphs.qdq import inferred, save

if TYPE_CHECKING:
    from agent.ports import Tensors


class OnnxConditioner:
    """Implements `ports.Conditioner`.

    Args:
        threads: Of the runtime; 0 takes all cores.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def equalize(self, model: str, frames: Sequence[Tensors], target: str) -> int:
        """Write target with even channels; return at how many places, writing nothing at 0.

        Raises:
            CalibrationError: "model_failed" on a frame.
        """
        clean = inferred(model)
        tensors = read(clean)
        if not tensors:
            return 0
        made, changed = equalized(clean, channel_maxima(clean, tensors, frames, self._threads))
        if changed:
            save(made, target)
        return changed
