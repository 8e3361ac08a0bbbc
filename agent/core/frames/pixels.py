"""What models expect of pixels: the usual ways, by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelPreset:
    """Values of [model.input] for ((pixel * scale) - mean) / std, pixels 0..255.

    Attributes:
        color: Order of the channels that mean and std are for; "" where all are alike.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    color: str = ""


PIXELS = {
    "0..255": PixelPreset(),
    "0..1": PixelPreset(scale=1 / 255),
    "-1..1": PixelPreset(scale=2 / 255, mean=(1.0, 1.0, 1.0)),
    # https://docs.pytorch.org/vision/stable/models.html, as the weights' `transforms()` have it
    "imagenet": PixelPreset(
        scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), color="RGB"
    ),
    # Keras, keras/src/applications/imagenet_utils.py, mode "caffe"
    "caffe-bgr": PixelPreset(mean=(103.939, 116.779, 123.68), color="BGR"),
}
