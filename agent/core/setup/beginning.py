"""The pixels that a graph expects, from the normalization that it begins with itself."""

from __future__ import annotations

from agent.core.setup.facts import Beginning

_LEVELS = 255.0
_UNIT_SPANS = (0.9, 2.1)  # of 0..255 that are only scaled: to 0..1, or to 0..2
_MEANS = (0.05, 0.95)  # of pixels 0..1
_SCALES = (1.0, 12.0)  # of pixels 0..1; by the std of ImageNet it is 4.5


def expected_pixels(begins: Beginning) -> str:
    """Return the preset of the pixels that the graph normalizes; "" if that is not certain.

    A graph that divides by 255, or subtracts a mean of several levels, takes 0..255. One that
    subtracts a mean inside 0..1 and divides by a standard deviation takes 0..1. All channels must
    agree.
    """
    found = {
        _expected(scale, shift) for scale, shift in zip(begins.scale, begins.shift, strict=True)
    }
    return found.pop() if len(found) == 1 else ""


def _expected(scale: float, shift: float) -> str:
    if scale <= 0:
        return ""
    mean, span = -shift / scale, scale * _LEVELS
    if mean == 0 and _UNIT_SPANS[0] <= span <= _UNIT_SPANS[1]:
        return "0..255"
    if 2 <= mean < _LEVELS:
        return "0..255"
    if _MEANS[0] <= mean <= _MEANS[1] and _SCALES[0] <= scale <= _SCALES[1]:
        return "0..1"
    return ""


def spelled(begins: Beginning) -> str:
    """Return the arithmetic in words."""
    scale, shift = begins.scale[0], begins.shift[0]
    return f"the graph begins with {scale:.4g} * x" + (f" {shift:+.4g}" if shift else "")
