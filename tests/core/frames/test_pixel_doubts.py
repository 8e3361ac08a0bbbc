"""Pixels that are probably not what the model was trained with are questioned."""

from __future__ import annotations

from itertools import product

import pytest

from agent.core.frames.input_spec import InputSpec
from agent.core.frames.pixel_doubts import pixel_doubts
from agent.core.frames.pixels import PIXELS

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE = (103.939, 116.779, 123.68)


def doubts(*, stated: bool = True, **values: object) -> tuple[str, ...]:
    spec = InputSpec(**({"width": 8, "height": 6} | values))  # type: ignore[arg-type]
    return pixel_doubts(spec, stated=stated)


@pytest.mark.parametrize("name", PIXELS)
def test_no_preset_is_questioned(name):
    preset = PIXELS[name]
    spec = {"scale": preset.scale, "mean": preset.mean, "std": preset.std}
    assert doubts(color=preset.color or "RGB", **spec) == ()
    assert doubts(color=preset.color or "GRAY", dtype="float16", **spec) == ()


@pytest.mark.parametrize(
    "values",
    [
        {"scale": 1 / 255, "mean": MEAN, "std": STD},
        {"scale": 1 / 127.5, "mean": (1.0,)},
        {"scale": 1.0, "mean": (127.5,), "std": (127.5,)},
        {"scale": 1.0, "mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)},
        {"scale": 1.0, "mean": CAFFE, "color": "BGR"},
        {"scale": 1 / 58, "mean": (2.12, 2.0, 1.8)},
        {"dtype": "uint8"},
        {"dtype": "int8", "mean": (128.0,)},
        {"color": "GRAY", "scale": 1 / 255, "mean": (0.5,), "std": (0.5,)},
    ],
)  # fmt: skip
def test_what_models_are_trained_with_is_not(values):
    assert doubts(**values) == ()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mean": MEAN, "std": STD}, "look like those of pixels 0..1, but scale = 1 makes pixels"),
        ({"mean": (0.5,), "std": (0.5,)}, "values are -1 to 509: is scale = 0.003921569 (1/255)"),
        ({"std": STD}, "look like those of pixels 0..1"),
        ({"mean": MEAN}, "look like those of pixels 0..1"),
        ({"scale": 1 / 255, "mean": (123.675, 116.28, 103.53), "std": (58.4, 57.1, 57.4)},
         "look like those of pixels 0..255, but scale = 0.003922 makes pixels 0..1"),
        ({"scale": 1 / 255, "mean": CAFFE, "color": "BGR"}, "is scale = 1 meant?"),
        ({"scale": 1 / 255, "std": (127.5,)}, "is scale = 1 meant?"),
        ({"scale": 255.0}, "scale = 255 multiplies pixels, so that values are 0 to 6.502e+04: is "
         "1 / 255 meant?"),
        ({"scale": 1 / 255 / 255}, "black and white hardly differ"),
        ({"mean": CAFFE, "color": "RGB"}, "ImageNet in the order BGR, but color = RGB"),
        ({"mean": CAFFE[::-1], "color": "BGR"}, "ImageNet in the order RGB, but color = BGR"),
        ({"scale": 1 / 255, "mean": MEAN, "std": STD, "color": "BGR"}, "the order RGB, but color"),
        ({"scale": 1 / 255, "mean": MEAN[::-1], "std": STD, "color": "RGB"}, "the order BGR"),
        ({"color": "GRAY", "scale": 1 / 255, "mean": MEAN, "std": STD}, "only the first of mean"),
        ({"dtype": "uint8", "scale": 1 / 255}, "uint8 takes integers, but values are 0 to 1"),
        ({"dtype": "uint8", "mean": (128.0,)}, "uint8 takes 0 to 255, but values are -128 to 127"),
        ({"dtype": "int8"}, "int8 takes -128 to 127, but values are 0 to 255: what is outside"),
    ],
)  # fmt: skip
def test_what_is_probably_a_slip_is_questioned_once(values, words):
    (found,) = doubts(**values)
    assert words in found


@pytest.mark.parametrize(("dtype", "color"), [*product(("float32", "float16"), ("RGB", "GRAY"))])
def test_pixels_that_nothing_was_stated_about_are_questioned(dtype, color):
    (found,) = doubts(stated=False, dtype=dtype, color=color)
    assert 'set model.input.pixels to "0..255" if that is right' in found
    assert "imagenet" in found
    assert doubts(stated=False, dtype="uint8") == ()
