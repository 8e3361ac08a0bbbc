"""From what is seen in a model file to a configuration, and what is missing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.tables import ModelTask
from agent.core.errors import ModelError
from agent.core.setup.facts import Beginning, ModelFacts, TensorFacts
from agent.core.setup.settings import Setting, Setup
from agent.core.setup.setup import set_up

IMAGE = TensorFacts(name="x", shape=(1, 3, 640, 640), dtype="float32")


def output(*shape: int, name: str = "y", dtype: str = "float32", made_by: str = "") -> TensorFacts:
    return TensorFacts(name=name, shape=shape, dtype=dtype, made_by=made_by)


def model(*outputs: TensorFacts, image: TensorFacts = IMAGE, **facts: Any) -> ModelFacts:
    found = {"metadata": {}, "beside": {}} | facts
    return ModelFacts(inputs=(image,), outputs=outputs, **found)


def known(facts: ModelFacts, **stated: Any) -> Setup:
    """Return the setup; `stated` has the values of model.input that the user gave."""
    keys = {f"model.input.{key}": value for key, value in stated.items()}
    return set_up(facts, {k: Setting(key=k, value=v, origin="--x") for k, v in keys.items()})


def missing(facts: ModelFacts, **stated: Any) -> list[str]:
    return [one.option.split()[0] for one in known(facts, **stated).missing]


def pixels(facts: ModelFacts) -> dict[str, Any]:
    keys = {f"model.input.{key}" for key in ("pixels", "scale", "mean", "std", "color")}
    return {k.split(".")[-1]: v for k, v in known(facts).values.items() if k in keys}


ULTRALYTICS = {
    "author": "Ultralytics",
    "stride": "32",
    "task": "detect",
    "batch": "1",
    "imgsz": "[640, 640]",
    "names": "{0: 'person', 1: \"driver's cab\", 2: 'caf\\xe9'}",
    "args": "{'batch': 1, 'half': False, 'nms': False}",
    "end2end": "False",
}


def ultralytics(*outputs: TensorFacts, image: TensorFacts = IMAGE, **changed: str) -> Setup:
    return known(model(*outputs, image=image, metadata=ULTRALYTICS | changed))


def decoding(setup: Setup) -> dict[str, Any]:
    keys = [one for one in setup.settings if one.key.startswith("model.task.decode.")]
    return {one.key.rpartition(".")[2]: one.value for one in keys}


def test_ultralytics_metadata_is_all_that_a_detector_needs():
    found = ultralytics(output(1, 7, 8400))
    assert found.missing == ()
    assert found.notes == ()
    assert found.values == {
        "model.input.layout": "NCHW",
        "model.input.color": "RGB",
        "model.input.dtype": "float32",
        "model.input.pixels": "0..1",
        "model.input.resize": "letterbox",
        "model.task.kind": "detection",
        "model.task.names": ("person", "driver's cab", "café"),
        "model.task.decode.kind": "yolo",
    }
    by_key = {one.key: one.origin for one in found.settings}
    assert "convention" in by_key["model.input.pixels"]


@pytest.mark.parametrize(
    ("changed", "outputs", "how"),
    [
        ({}, [output(1, 300, 6)], {"kind": "nms"}),
        ({"end2end": "True"}, [output(1, 300, 6)], {"kind": "nms"}),
        ({"args": "{'nms': True}"}, [output(0, 300, 6)], {"kind": "nms"}),
        ({"names": "{0: 'a', 1: 'b'}"}, [output(1, 6, 8400)], {"kind": "yolo"}),
        (
            {"task": "segment"},
            [output(1, 39, 8400), output(1, 32, 160, 160, name="output1")],
            {"kind": "yolo", "masks": "output1"},
        ),
        (
            {"task": "segment"},
            [output(1, 300, 38), output(1, 32, 160, 160, name="output1")],
            {"kind": "nms", "masks": "output1"},
        ),
        (
            {"task": "pose", "kpt_shape": "[17, 3]", "names": "{0: 'person'}"},
            [output(1, 56, 8400)],
            {"kind": "yolo", "keypoints": 17},
        ),
        (
            {"task": "pose", "kpt_shape": "[17, 3]", "names": "{0: 'person'}"},
            [output(1, 300, 57)],
            {"kind": "nms", "keypoints": 17},
        ),
        ({"task": "obb"}, [output(1, 8, 8400)], {"kind": "yolo", "rotated": True}),
        ({"task": "obb"}, [output(1, 300, 7)], {"kind": "nms", "rotated": True}),
        (
            {"head": "RTDETRDecoder"},
            [output(1, 300, 7)],
            {"kind": "yolo", "unit": "fractions", "overlap": 1.0},
        ),
        (
            {"head": "RTDETRDecoder"},
            [output(0, 0, 6)],
            {"kind": "nms", "unit": "fractions", "format": "cxcywh"},
        ),
    ],
)
def test_each_head_of_ultralytics_is_decoded(changed, outputs, how):
    assert decoding(ultralytics(*outputs, **changed)) == how


def test_a_yolov5_has_objectness():
    metadata = {key: ULTRALYTICS[key] for key in ("stride", "names")}
    found = known(model(output(1, 25200, 8), metadata=metadata))
    assert decoding(found) == {"kind": "yolo", "objectness": True}
    assert found.values["model.input.resize"] == "letterbox"
    assert found.missing == ()


def test_a_classifier_of_ultralytics_is_stretched_and_not_cropped():
    found = ultralytics(output(1, 3), task="classify")
    assert found.values["model.task.kind"] == "classification"
    assert found.values["model.input.resize"] == "stretch"
    assert decoding(found) == {}


def test_an_export_of_free_size_has_that_of_its_metadata():
    image = replace(IMAGE, shape=(0, 3, 0, 0))
    found = ultralytics(output(0, 7, 0), image=image, imgsz="[480, 640]")
    assert (found.values["model.input.width"], found.values["model.input.height"]) == (640, 480)
    assert decoding(found) == {"kind": "yolo"}
    assert missing(model(output(0, 7, 0), image=image)) == ["--size", "--pixels"]


def test_a_size_that_the_file_fixes_is_the_size():
    found = ultralytics(output(1, 7, 8400), imgsz="[320, 320]")
    assert "model.input.width" not in found.values
    assert found.size == (640, 640)
    assert "not used" in found.notes[0]
    facts = model(output(1, 7, 8400), metadata=ULTRALYTICS)
    assert known(facts, width=320, height=320).values["model.input.width"] == 320


def test_names_that_can_not_be_shown_are_not_used():
    for names in ("{0: '\\x1b[2J'}", "{0: ''}", "{0: '" + "a" * 300 + "'}"):
        found = ultralytics(output(1, 7, 8400), names=names)
        assert "model.task.names" not in found.values
        assert "not used" in found.notes[0]
    for names in ("{1: 'a'}", "{0: __import__('os')}", "(" * 9999, "['a', 'b']"):
        found = ultralytics(output(1, 7, 8400), names=names)
        assert found.values.get("model.task.names") in {None, ("a", "b")}


@given(st.dictionaries(st.sampled_from(sorted(ULTRALYTICS)), st.text()))
def test_metadata_may_be_any_text(metadata):
    known(model(output(1, 7, 8400), metadata=ULTRALYTICS | metadata))


@given(st.text() | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda one: st.lists(one) | st.dictionaries(st.sampled_from(
        ["image_mean", "image_std", "do_rescale", "rescale_factor", "size", "mean", "std", "id2label",
         "input_size", "pretrained_cfg", "architectures", "do_normalize", "crop_size"]), one),
).map(json.dumps))  # fmt: skip
def test_a_file_beside_the_model_may_contain_anything(text):
    beside = {"preprocessor_config.json": text, "config.json": text}
    known(model(output(1, 1000), beside=beside))


def test_pixels_are_never_guessed():
    for outputs in ([output(1, 1000)], [output(1, 84, 8400)], [output(1, 21, 640, 640)]):
        assert missing(model(*outputs)) == ["--pixels"]
        assert missing(model(*outputs), pixels="imagenet") == []
        assert missing(model(*outputs), scale=1.0) == []


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_other_types_need_the_range_of_pixels_too(dtype):
    assert missing(model(output(1, 9), image=replace(IMAGE, dtype=dtype))) == ["--pixels"]


def test_a_detector_of_tensorflow_needs_nothing():
    image = TensorFacts(name="x", shape=(1, 320, 320, 3), dtype="uint8")
    names = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")
    outputs = [output(1, 100, name=f"{one}:0") for one in names]
    found = known(model(*outputs, image=image))
    assert found.missing == ()
    assert found.values["model.input.layout"] == "NHWC"
    assert found.values["model.input.pixels"] == "0..255"
    assert decoding(found) == {
        "kind": "nms", "boxes": "detection_boxes:0", "scores": "detection_scores:0",
        "labels": "detection_classes:0", "count": "num_detections:0", "format": "yxyx",
        "unit": "fractions",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("outputs", "kind"),
    [
        ([output(1, 1000)], "classification"),
        ([output(1, 8, 1, 1)], "classification"),
        ([output(0, 5)], "generic"),  # rows, as many as there are
        ([output(1, 1)], "generic"),
        ([output(1, 10), output(1, 10)], "generic"),
        ([output(1, 21, 640, 640)], "segmentation"),
        ([output(1, 150, 160, 160)], "segmentation"),
        ([output(1, 640, 640, 2)], "segmentation"),
        ([output(1, 640, 640, dtype="int64")], "segmentation"),
        ([output(1, 1, 640, 640, made_by="Sigmoid")], "segmentation"),
        ([output(1, 1, 640, 640, name="mask")], "segmentation"),
        ([output(1, 1, 640, 640)], "generic"),  # it may be depth
        ([output(1, 3, 640, 640, made_by="Sigmoid")], "generic"),  # or a picture
        ([output(1, 2048, 20, 20)], "generic"),
        ([output(1, 197, 768)], "generic"),
        ([output(1, 84, 8400)], "detection"),
        ([output(1, 84, 1600, made_by="Concat"), output(1, 3)], "generic"),
        ([output(1, 25200, 85)], "detection"),
        ([output(1, 300, 6)], "detection"),
        ([output(1, 100, 5, name="dets"), output(1, 100, name="labels")], "detection"),
    ],
)
def test_the_task_is_seen_in_the_outputs_where_they_show_it(outputs, kind):
    found = known(model(*outputs))
    assert found.values["model.task.kind"] == kind
    assert any("--task" in note for note in found.notes) == (kind in {"generic", "classification"})
    if kind == "detection":
        assert "model.task.decode.kind" in found.values


def test_outputs_named_like_boxes_come_with_a_decoding_to_try():
    outputs = [output(1, 100, 4, name="my_boxes"), output(1, 100, name="my_scores")]
    (note,) = known(model(*outputs)).notes
    assert """--decode 'kind = "boxes", boxes = "my_boxes", scores = "my_scores"'""" in note


def test_a_detr_is_told_by_the_number_of_its_classes():
    outputs = [output(1, 100, 92, name="logits"), output(1, 100, 4, name="pred_boxes")]
    assert decoding(known(model(*outputs))) == {}
    assert "--decode" in known(model(*outputs)).notes[0]
    for count, key in ((91, "softmax"), (92, "logits")):
        config = {"id2label": {str(index): f"c{index}" for index in range(count)}}
        found = known(model(*outputs, beside={"config.json": json.dumps(config)}))
        assert decoding(found)[key] is True
        assert len(found.values["model.task.names"]) == count


TRANSFORMERS = {
    "do_normalize": True, "do_rescale": True, "rescale_factor": 0.00392156862745098,
    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": {"height": 640, "width": 640},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {"pixels": "-1..1", "color": "RGB"}),
        ({"do_normalize": False}, {"pixels": "0..1", "color": "RGB"}),
        ({"do_normalize": False, "do_rescale": False}, {"pixels": "0..255", "color": "RGB"}),
        (
            {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
            {"pixels": "imagenet", "color": "RGB"},
        ),
        (
            {"do_normalize": False, "do_flip_channel_order": True},
            {"pixels": "0..1", "color": "BGR"},
        ),
        (
            {"image_mean": [0.4, 0.4, 0.4]},
            {"scale": 0.00392156862745098, "mean": (0.4, 0.4, 0.4), "std": (0.5, 0.5, 0.5),
             "color": "RGB"},
        ),
    ],
)  # fmt: skip
def test_the_preprocessing_of_transformers_beside_the_model_is_read(changed, expected):
    beside = {"preprocessor_config.json": json.dumps(TRANSFORMERS | changed)}
    assert pixels(model(output(1, 10), beside=beside)) == expected


@pytest.mark.parametrize("nested", [False, True])
def test_the_configuration_of_timm_beside_the_model_is_read(nested):
    values = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
              "input_size": [3, 640, 640], "crop_pct": 0.9}  # fmt: skip
    text = json.dumps({"pretrained_cfg": values} if nested else values)
    facts = model(output(1, 10), beside={"config.json": text})
    assert pixels(facts) == {"pixels": "imagenet", "color": "RGB"}
    assert "crops" in known(facts).notes[0]


def test_a_description_of_another_size_is_of_another_model():
    beside = {"preprocessor_config.json": json.dumps(TRANSFORMERS | {"size": 224})}
    facts = model(output(1, 10), beside=beside)
    assert missing(facts) == ["--pixels"]
    assert "another size" in known(facts).notes[0]


@pytest.mark.parametrize(
    ("scale", "shift", "preset"),
    [
        ((1 / 255,), (0.0,), "0..255"),
        ((2 / 255,), (-1.0,), "0..255"),
        ((1 / 58.4, 1 / 57.1, 1 / 57.4), (-2.118, -2.036, -1.804), "0..255"),
        ((1.0,) * 3, (-103.9, -116.8, -123.7), "0..255"),
        ((4.367, 4.464, 4.444), (-2.118, -2.036, -1.804), "0..1"),
        ((2.0,), (-1.0,), "0..1"),
        ((1.0,), (0.0,), ""),
        ((0.5,), (0.5,), ""),
        ((-1.0,), (1.0,), ""),
        ((1 / 255, 1.0, 1.0), (0.0, 0.0, 0.0), ""),
        ((3.0,), (0.0,), ""),
        ((127.5,), (127.5,), ""),
    ],
)
def test_a_normalization_in_the_graph_states_the_range_if_it_is_certain(scale, shift, preset):
    facts = model(output(1, 10), begins=Beginning(scale=scale, shift=shift))
    assert pixels(facts).get("pixels", "") == preset
    assert missing(facts) == ([] if preset else ["--pixels"])


def test_two_normalizations_are_a_question():
    beside = {"preprocessor_config.json": json.dumps(TRANSFORMERS)}
    begins = Beginning(scale=(1 / 255,), shift=(0.0,))
    facts = model(output(1, 10), beside=beside, begins=begins)
    assert missing(facts) == ["--pixels"]
    assert "so does the graph" in known(facts).notes[0]


def test_what_the_user_states_counts():
    stated = {"pixels": "0..255", "color": "BGR", "resize": "stretch"}
    found = known(model(output(1, 7, 8400), metadata=ULTRALYTICS), **stated)
    assert {key: found.values[f"model.input.{key}"] for key in stated} == stated
    kind = Setting(key="model.task.kind", value="generic", origin="--task")
    found = set_up(model(output(1, 7, 8400), metadata=ULTRALYTICS), {kind.key: kind})
    assert "model.task.names" not in found.values
    assert decoding(found) == {}


@pytest.mark.parametrize(
    ("shape", "layout", "asked"),
    [
        ((1, 3, 64, 64), "NCHW", []),
        ((1, 64, 64, 1), "NHWC", []),
        ((0, 3, 0, 0), "NCHW", ["--size"]),
        ((0, 0, 64, 64), "NCHW", []),
        ((0, 0, 0, 0), None, ["--layout", "--size"]),
        ((1, 3, 64, 3), None, ["--layout"]),
    ],
)
def test_the_layout_is_where_the_channels_are(shape, layout, asked):
    facts = model(output(1, 9), image=replace(IMAGE, shape=shape))
    assert known(facts).values.get("model.input.layout") == layout
    assert missing(facts, pixels="0..1") == asked


def test_a_fixed_batch_is_that_of_the_engines():
    facts = model(output(4, 9), image=replace(IMAGE, shape=(4, 3, 64, 64)))
    assert known(facts).values["search.batch"] == (4,)
    assert known(facts).values["model.task.kind"] == "classification"


def test_a_batch_beside_a_size_that_is_replaced_is_a_placeholder_too():
    facts = model(output(10, 9), image=replace(IMAGE, shape=(10, 3, 32, 32)))
    same, other = (known(facts, pixels="0..255", width=side, height=32) for side in (32, 64))
    assert same.values["search.batch"] == (10,)
    assert "search.batch" not in other.values
    assert "engines take one frame" in other.notes[0]


def test_names_are_of_this_model_if_it_has_as_many_classes():
    config = {"config.json": json.dumps({"label_names": ["cat", "dog"], "num_classes": 2})}
    assert known(model(output(1, 2), beside=config)).values["model.task.names"] == ("cat", "dog")
    other = known(model(output(1, 9), beside=config))
    assert "model.task.names" not in other.values
    assert any("another model" in note for note in other.notes)


@pytest.mark.parametrize(
    "config", [{"num_classes": 20}, {"id2label": {str(i): "x" for i in range(20)}}]
)
def test_as_many_outputs_as_classes_are_classes_or_a_map_of_them(config):
    beside = {"config.json": json.dumps(config)}
    image = replace(IMAGE, shape=(0, 3, 0, 0))
    for outputs, kind in (((0, 20), "classification"), ((0, 20, 0, 0), "segmentation")):
        found = known(model(output(*outputs), image=image, beside=beside))
        assert found.values["model.task.kind"] == kind
        assert not any("--task" in note for note in found.notes)
    found = known(model(output(0, 21, 0, 0), image=image, beside=beside))
    assert found.values["model.task.kind"] == "generic"


def test_one_channel_is_grey():
    facts = model(output(1, 9), image=replace(IMAGE, shape=(1, 1, 64, 64)))
    assert known(facts).values["model.input.color"] == "GRAY"


def test_a_model_that_takes_no_image_is_refused():
    image = replace(IMAGE, shape=(1, 3, 64))
    for facts in (
        model(output(1, 9), image=image),
        model(output(1, 9), image=replace(IMAGE, dtype="int64")),
        replace(model(output(1, 9)), inputs=(IMAGE, IMAGE)),
        replace(model(output(1, 9)), inputs=()),
    ):
        with pytest.raises(ModelError):
            known(facts)


def test_every_key_of_a_task_is_one_of_the_configuration():
    keys = {key.rpartition(".")[2] for key in ultralytics(output(1, 7, 8400)).values
            if key.count(".") == 2 and ".task." in key}  # fmt: skip
    assert keys <= set(ModelTask.__struct_fields__)
