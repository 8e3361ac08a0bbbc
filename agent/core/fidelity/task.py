"""What a model's outputs mean; no numpy here, as in `decoding.py`."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.fidelity.decoding import Decoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The task of a model.

    Attributes:
        kind: classification, segmentation, detection, generic, or module:function.
        decoding: How a detector's outputs become boxes, thresholds included; None without boxes.
        names: Of the classes, in their order; empty if they were not given.
        threshold: The score of a class, or of a foreground, that stands alone and above which it was
            counted when it was judged: 0.5 for probabilities, 0 for logits. None where scores
            compete, or boxes have a threshold of their own.
    """

    kind: str
    decoding: Decoding | None = None
    names: tuple[str, ...] = ()
    threshold: float | None = None

    def name(self, label: int) -> str:
        """Return the name of a class, its number if it has none."""
        return self.names[label] if 0 <= label < len(self.names) else str(label)
