"""A model file that states its input is believed before a configuration that feeds it otherwise."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.core.frames.input_spec import InputSpec
from agent.core.setup.contradictions import contradictions
from agent.core.setup.facts import Beginning
from tests.core.setup.test_set_up import IMAGE, ULTRALYTICS, model, output

SPEC = InputSpec(width=640, height=640)
YOLO = model(output(1, 84, 8400), metadata=ULTRALYTICS)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DESCRIBED = {
    "preprocessor_config.json": json.dumps(
        {"do_rescale": True, "do_normalize": True, "image_mean": MEAN, "image_std": STD}
    )
}


def test_what_the_file_states_and_the_configuration_does_is_no_contradiction():
    assert contradictions(YOLO, replace(SPEC, scale=1 / 255, resize="letterbox")) == ()
    assert contradictions(YOLO, replace(SPEC, scale=0.0039216, mean=(0.0,), std=(1.0,),
                                        resize="letterbox")) == ()  # fmt: skip
    imagenet = replace(SPEC, scale=1 / 255, mean=MEAN, std=STD)
    assert contradictions(model(output(1, 1000), beside=DESCRIBED), imagenet) == ()


def test_a_file_that_states_nothing_contradicts_nothing():
    for spec in (SPEC, replace(SPEC, scale=1 / 255, color="BGR", resize="letterbox")):
        assert contradictions(model(output(1, 1000)), spec) == ()
    two = replace(YOLO, inputs=(IMAGE, IMAGE))
    assert contradictions(two, SPEC) == ()


def test_raw_pixels_for_an_export_that_means_0_to_1_are_named_with_the_origin():
    pixels, resize = contradictions(YOLO, SPEC)
    assert pixels.startswith("the file states pixels 0..1 (the convention of Ultralytics' exports")
    assert pixels.endswith("but they are 0..255")
    assert resize.startswith("the file states resize letterbox (")
    assert resize.endswith("but it is stretch")
    (color,) = contradictions(YOLO, replace(SPEC, scale=1 / 255, resize="letterbox", color="BGR"))
    assert "the file states color RGB" in color


def test_a_description_beside_the_file_is_compared_channel_by_channel():
    described = model(output(1, 1000), beside=DESCRIBED)
    (found,) = contradictions(described, replace(SPEC, scale=1 / 255, mean=MEAN))
    assert found == (
        "the file states pixels imagenet in RGB (preprocessor_config.json beside the model: "
        "rescale_factor, image_mean, image_std), but they are of scale 0.003922, mean 0.485, 0.456, "
        "0.406 and std 1, 1, 1"
    )
    reverse = replace(SPEC, scale=1 / 255, mean=MEAN[::-1], std=STD[::-1], color="BGR")
    assert len(contradictions(described, reverse)) == 2


@pytest.mark.parametrize(("scale", "count"), [(1.0, 0), (1 / 255, 1)])
def test_a_graph_that_begins_with_its_own_scale_is_not_to_be_fed_scaled_pixels(scale, count):
    begins = Beginning(scale=(1 / 255,), shift=(0.0,))
    found = contradictions(model(output(1, 1000), begins=begins), replace(SPEC, scale=scale))
    assert len(found) == count
