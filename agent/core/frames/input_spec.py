"""The input as an application must feed it, complete: model.json and the report state this record.

No numpy here: the process that starts a run states it, and the jobs follow it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpolation:
    """OpenCV's interpolation of a resize, as the end of its constant's name: `INTER_AREA`.

    Attributes:
        shrink: Where neither side grows.
        enlarge: Where a side grows. A picture that has the size already is not resized.
    """

    shrink: str = "area"
    enlarge: str = "linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """Preprocessing of a frame into a tensor: ((pixel * scale) - mean) / std per channel.

    The frame is resized first, as uint8, then its colours are ordered, then pixels are computed in
    float32. Scores and boxes that were judged are those of a frame treated exactly so.

    Attributes:
        width: px; 0 for that of the model's input, set by intake.
        height: px; 0 as for width.
        layout: NCHW or NHWC.
        color: Order of the channels: RGB, BGR or GRAY.
        grey_weights: Of red, green and blue in GRAY: luma of ITU-R BT.601.
        dtype: float32, float16, uint8 or int8 (integers are rounded, halves to even, and clipped).
        scale: Factor of a pixel, 0 to 255.
        mean: Of each channel in the order of `color`, or one for all, after the scale.
        std: As mean.
        resize: stretch, or letterbox: keeps the aspect ratio by the smaller of both factors, sides
            rounded (halves to even), and pads the rest.
        interpolation: Of the resize.
        pad_value: Of every channel of a letterbox's padding, before the scale: the grey that
            detectors are trained with (Ultralytics YOLO).
        centered: Whether the picture is in the middle of a letterbox, the smaller half of an odd
            padding at the left and the top; else in the top left corner.
    """

    width: int
    height: int
    layout: str = "NCHW"
    color: str = "RGB"
    grey_weights: tuple[float, float, float] = (0.299, 0.587, 0.114)
    dtype: str = "float32"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: str = "stretch"
    interpolation: Interpolation = field(default_factory=Interpolation)
    pad_value: int = 114
    centered: bool = True


def resolved(spec: InputSpec, shape: tuple[int, ...]) -> InputSpec:
    """Return spec with width and height taken from the clean model's input shape."""
    height, width = shape[1:3] if spec.layout == "NHWC" else shape[2:4]
    return replace(spec, width=width, height=height)
