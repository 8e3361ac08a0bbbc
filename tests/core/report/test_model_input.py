"""The input as an application must feed it: every value has an origin, and words."""

from __future__ import annotations

from dataclasses import asdict, fields, replace

import pytest

from agent.core.frames.input_spec import InputSpec
from agent.core.frames.pixels import PIXELS, describe, values
from agent.core.report.model_input import input_report
from agent.core.report.wording import model_input

SPEC = InputSpec(width=320, height=240)


def test_every_value_has_its_origin():
    origin = {
        "model.input.width": "a.toml", "model.input.height": "a.toml",
        "model.input.scale": 'pixels = "0..1" (command line)', "model.path": "command line",
    }  # fmt: skip
    found = input_report(SPEC, InputSpec(width=320, height=0), origin)
    assert found.origin.keys() == {field.name for field in fields(InputSpec)}
    assert found.origin["width"] == "a.toml"
    assert found.origin["height"] == "the model file"
    assert found.origin["scale"] == 'pixels = "0..1" (command line)'
    assert found.origin["dtype"] == "default"
    assert found.origin["interpolation"] == "quantd always does so"
    assert found.width == 320


@pytest.mark.parametrize("name", PIXELS)
def test_a_preset_has_its_name_however_its_scale_was_rounded(name):
    preset = PIXELS[name]
    spec = InputSpec(
        width=8, height=6, color=preset.color or "GRAY", scale=round(preset.scale, 7),
        mean=preset.mean, std=preset.std,
    )  # fmt: skip
    assert f"pixels {name}, so" in describe(spec)


def test_pixels_of_no_preset_are_a_formula_with_the_values_it_gives():
    spec = InputSpec(width=8, height=6, scale=2 / 255, mean=(1.0,), std=(1.0, 1.0, 0.5))
    assert describe(spec) == (
        "8x6 RGB NCHW float32, pixels (pixel * 0.007843 - 1) / [1, 1, 0.5], so values -2 to 2, "
        "stretch (area, linear where it grows)"
    )
    boxed = replace(spec, resize="letterbox", centered=False)
    assert describe(boxed).endswith("in the top left corner and padded with 114")
    assert values(SPEC) == (0.0, 255.0)


def test_channels_of_imagenet_in_another_order_are_not_that_preset():
    preset = PIXELS["imagenet"]
    spec = InputSpec(
        width=8, height=6, color="BGR", scale=1 / 255, mean=preset.mean, std=preset.std
    )
    assert "imagenet" not in describe(spec)


def test_a_report_of_an_earlier_version_has_no_words_for_it():
    assert model_input({}) == ""
    known = {"input": asdict(input_report(SPEC, SPEC, {}))}
    assert model_input(known).startswith("320x240 RGB NCHW float32, pixels 0..255")
    del known["input"]["interpolation"], known["input"]["centered"]
    assert model_input(known).startswith("320x240")
