"""What is suspicious about how pixels become values, seen from the numbers alone."""

from __future__ import annotations

from collections.abc import Iterator

from agent.core.frames.input_spec import InputSpec
from agent.core.frames.pixels import PIXELS, values

_WHITE = 255
_SMALL = 2.5  # -1..1 has a factor of 2 / 255
_ALIKE = 0.02  # how far a mean may be from that of a data set and still be it
_LEAST = 0.5  # between black and white, of values in float
_LEAST_LEVELS = 64
_RANGES = {"uint8": (0, 255), "int8": (-128, 127)}
_ORDERS = ("RGB", "BGR")


def pixel_doubts(spec: InputSpec, *, stated: bool) -> tuple[str, ...]:
    """Return what is suspicious, each in a sentence with what may be meant; empty if nothing is.

    Args:
        spec: The model's input.
        stated: Whether anything was configured for pixels.
    """
    if not stated and spec.dtype not in _RANGES:
        return (
            "nothing states which values of pixels the model takes, so it is fed 0 to 255: set "
            f'model.input.pixels to "0..255" if that is right, else to one of {_presets()}',
        )
    return (*_scaled(spec), *_ordered(spec), *_rounded(spec))


def _scaled(spec: InputSpec) -> Iterator[str]:
    low, high = values(spec)
    white = _WHITE * spec.scale
    shifts = [abs(one) for one in spec.mean if one]
    factors = [abs(one) for one in spec.std if one != 1]
    spans = f"so that values are {low:.4g} to {high:.4g}"
    if spec.scale > 1:
        yield (
            f"model.input.scale = {spec.scale:g} multiplies pixels, {spans}: is 1 / {spec.scale:g} "
            "meant?"
        )
    elif white > _SMALL and (shifts or factors) and max(shifts + factors) <= 1:
        yield (
            "model.input.mean and std look like those of pixels 0..1, but scale = "
            f"{spec.scale:.4g} makes pixels 0..{white:.4g}, {spans}: is scale = 0.003921569 (1/255) "
            "meant?"
        )
    elif white <= _SMALL and max(shifts + factors, default=0) > _SMALL:
        yield (
            "model.input.mean and std look like those of pixels 0..255, but scale = "
            f"{spec.scale:.4g} makes pixels 0..{white:.4g}, {spans}: is scale = 1 meant?"
        )
    elif spec.dtype not in _RANGES and high - low < _LEAST:
        yield f"black and white hardly differ, {spans}: check model.input.scale and std"


def _ordered(spec: InputSpec) -> Iterator[str]:
    if spec.color == "GRAY":
        if len(set(spec.mean)) > 1 or len(set(spec.std)) > 1:
            yield "model.input.color = GRAY has one channel, so only the first of mean and std counts"
        return
    known = PIXELS["imagenet"].mean
    large = _WHITE if max(map(abs, spec.mean)) > _SMALL else 1
    for color, mean in zip(_ORDERS, (known, known[::-1]), strict=True):
        alike = len(spec.mean) == len(mean) and all(
            abs(one / large - other) <= _ALIKE * other
            for one, other in zip(spec.mean, mean, strict=True)
        )
        if alike and color != spec.color:
            yield (
                f"model.input.mean is that of ImageNet in the order {color}, but color = "
                f"{spec.color}"
            )


def _rounded(spec: InputSpec) -> Iterator[str]:
    if spec.dtype not in _RANGES:
        return
    low, high = values(spec)
    least, most = _RANGES[spec.dtype]
    spans = f"values are {low:.4g} to {high:.4g}"
    if low < least - _LEAST or high > most + _LEAST:
        yield (
            f"model.input.dtype = {spec.dtype} takes {least} to {most}, but {spans}: what is outside "
            "is cut off"
        )
    elif high - low < _LEAST_LEVELS:
        yield f"model.input.dtype = {spec.dtype} takes integers, but {spans}: hardly a level is left"


def _presets() -> str:
    return ", ".join(name for name in PIXELS if name != "0..255")
