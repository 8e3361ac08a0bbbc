"""How a detector's outputs become boxes, as the configuration describes it."""

from __future__ import annotations

from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """Decoding of outputs into boxes; names are those of the model's outputs.

    Attributes:
        kind: One of DECODERS.
        boxes: With 4 numbers per box; for "yolo" and for rows the whole head, "" for the first
            output.
        scores: One score per box, or one per box and class; for "centers" the heat maps; for "nms"
            "" if they are in the rows.
        labels: One class id per box; "" if they are in the rows, scores are per class, or all boxes
            are of one class.
        count: Number of detections, of which only so many rows are valid; "" if all are.
        sizes: Of boxes centred at a cell, 2 channels.
        offsets: Of centres inside a cell, in cells, 2 channels; "" if there are none.
        masks: Prototypes of masks (m, h, w); the last m channels of a box are its coefficients.
        keypoints: Number of points after the scores of a box, of 2 or 3 numbers each.
        rotated: True if the last channel of a box is its angle, in radians.
        format: Of `boxes`: "xyxy" or "yxyx" corners, or "cxcywh" centre and size.
        unit: Of `boxes`: "pixels" of the model's input or "fractions" of its width and height.
        size: Unit of `sizes`: "cells", "log" (their logarithm) or "pixels".
        middle: True if offsets count from the middle of a cell, False from its corner.
        order: Channels of sizes and offsets: "xy" (width first) or "yx" (height first).
        stride: Pixels per cell, for sizes in pixels and for masks.
        logits: True if a sigmoid must be applied to scores.
        softmax: True if a softmax over the classes must be applied to scores.
        background: True if the first class is the background.
        no_object: True if the last class means that there is no object.
        objectness: True if an objectness score precedes those of the classes.
        threshold: Boxes with lower scores are dropped.
        overlap: Boxes of a class that overlap by more are one object; 1 if the graph suppresses.
    """

    kind: str
    boxes: str = ""
    scores: str = ""
    labels: str = ""
    count: str = ""
    sizes: str = ""
    offsets: str = ""
    masks: str = ""
    keypoints: int = 0
    rotated: bool = False
    format: str = "xyxy"
    unit: str = "pixels"
    size: str = "cells"
    middle: bool = False
    order: str = "xy"
    stride: int = 4
    logits: bool = False
    softmax: bool = False
    background: bool = False
    no_object: bool = False
    objectness: bool = False
    threshold: float = 0.25
    overlap: float = 0.45

    def extras(self, channels: int, fixed: int, masks: Shape | None) -> int:
        """Return the number of channels of a box that are neither its place nor its scores.

        Args:
            channels: Of a box.
            fixed: Of them, those that every head of the kind has.
            masks: Shape of the prototypes without the batch axis.
        """
        if masks is not None:
            return masks[0]
        if self.keypoints:
            return self.keypoints * (3 if channels >= fixed + 3 * self.keypoints else 2)
        return int(self.rotated)
