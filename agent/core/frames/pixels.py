"""What models expect of pixels: the usual ways, by name."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.frames.input_spec import InputSpec

_WHITE = 255
_ROUNDED = 1e-3


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


def values(spec: InputSpec) -> tuple[float, float]:
    """Return the lowest and the highest value that a pixel becomes, before it is rounded."""
    ends = [
        (pixel * spec.scale - mean) / std
        for mean, std in zip(_each(spec.mean), _each(spec.std), strict=True)
        for pixel in (0, _WHITE)
    ]
    return min(ends), max(ends)


def describe(spec: InputSpec) -> str:
    """Return in words what the model is fed: size, order, type, values of pixels, resize."""
    low, high = values(spec)
    named = (name for name, one in PIXELS.items() if _same(one, spec))
    how = next(named, "") or f"(pixel * {spec.scale:.4g} - {_list(spec.mean)}) / {_list(spec.std)}"
    return (
        f"{spec.width}x{spec.height} {spec.color} {spec.layout} {spec.dtype}, pixels {how}, so "
        f"values {low:.4g} to {high:.4g}, {_resize(spec)}"
    )


def _resize(spec: InputSpec) -> str:
    how = (
        f"{spec.resize} ({spec.interpolation.shrink}, {spec.interpolation.enlarge} where it grows)"
    )
    if spec.resize != "letterbox":
        return how
    place = "centered" if spec.centered else "in the top left corner"
    return f"{how}, {place} and padded with {spec.pad_value}"


def _same(preset: PixelPreset, spec: InputSpec) -> bool:
    """Return whether a preset gives the values of an input, but for how its scale was rounded."""
    wanted, seen = (
        (one.scale * _WHITE, *_each(one.mean), *_each(one.std)) for one in (preset, spec)
    )
    return preset.color in {"", spec.color} and all(
        abs(a - b) <= _ROUNDED * max(abs(a), abs(b)) for a, b in zip(wanted, seen, strict=True)
    )


def _each(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return a value for each of three channels."""
    return values * 3 if len(values) == 1 else values


def _list(values: tuple[float, ...]) -> str:
    alike = values[:1] if len(set(values)) == 1 else values
    text = ", ".join(f"{value:.4g}" for value in alike)
    return text if len(alike) == 1 else f"[{text}]"
