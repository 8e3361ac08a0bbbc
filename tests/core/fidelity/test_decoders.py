"""A decoding that does not fit a model is refused with what would."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.errors import ConfigError
from agent.core.fidelity.decoders import DECODERS, check_outputs
from agent.core.fidelity.decoding import Decoding

YOLO11 = {"output0": (1, 84, 8400)}
SEGMENT = {"output0": (1, 116, 8400), "output1": (1, 32, 160, 160)}
END_TO_END = {"output0": (1, 300, 6)}
DFINE = {"logits": (1, 300, 80), "pred_boxes": (1, 300, 4)}
TENSORFLOW = {
    "detection_boxes": (1, 100, 4), "detection_classes": (1, 100),
    "detection_scores": (1, 100), "num_detections": (1,),
}  # fmt: skip
CENTERNET = {"hm": (1, 80, 128, 128), "wh": (1, 2, 128, 128), "reg": (1, 2, 128, 128)}
CLASSIFIER = {"probabilities": (1, 1000)}
SSDLITE = {"boxes": (0, 4), "scores": (0,), "labels": (0,)}  # as on a black picture


def refused(outputs, **keys):
    with pytest.raises(ConfigError) as caught:
        check_outputs(Decoding(**keys), outputs)
    assert caught.value.code == "decode"
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("outputs", "keys"),
    [
        (YOLO11, {"kind": "yolo"}),
        ({"output": (1, 25200, 85)}, {"kind": "yolo", "objectness": True}),
        (SEGMENT, {"kind": "yolo", "masks": "output1"}),
        ({"output0": (1, 56, 8400)}, {"kind": "yolo", "keypoints": 17}),
        ({"output0": (1, 39, 8400)}, {"kind": "yolo", "keypoints": 17}),
        ({"output0": (1, 20, 21504)}, {"kind": "yolo", "rotated": True}),
        (END_TO_END, {"kind": "nms"}),
        ({"output0": (1, 300, 38), "output1": (1, 32, 9, 9)}, {"kind": "nms", "masks": "output1"}),
        ({"output0": (1, 300, 57)}, {"kind": "nms", "keypoints": 17}),
        ({"output0": (1, 300, 7)}, {"kind": "nms", "rotated": True}),
        (
            TENSORFLOW,
            {
                "kind": "nms", "boxes": "detection_boxes", "scores": "detection_scores",
                "labels": "detection_classes", "count": "num_detections",
            },
        ),
        (
            {"dets": (1, 100, 5), "labels": (1, 100)},
            {"kind": "nms", "boxes": "dets", "labels": "labels"},
        ),
        (SSDLITE, {"kind": "nms", "boxes": "boxes", "scores": "scores", "labels": "labels"}),
        (DFINE, {"kind": "boxes", "boxes": "pred_boxes", "scores": "logits"}),
        (CENTERNET, {"kind": "centers", "scores": "hm", "sizes": "wh", "offsets": "reg"}),
    ],
)  # fmt: skip
def test_a_decoding_that_fits_is_taken(outputs, keys):
    check_outputs(Decoding(**keys), outputs)


def test_a_name_that_is_no_output_lists_them_and_what_fits():
    said, hint = refused(DFINE, kind="boxes", boxes="boxes", scores="logits")
    assert said == 'model.task.decode.boxes = "boxes" is no output of the model'
    assert hint == (
        "the model's outputs: logits 1x300x80, pred_boxes 1x300x4; these fit: "
        'kind = "boxes", boxes = "pred_boxes", scores = "logits" or kind = "yolo", boxes = "logits"'
    )


def test_a_shape_that_does_not_fit_lists_what_does():
    said, hint = refused(YOLO11, kind="nms")
    assert said == (
        "model.task.decode.boxes: output output0 of shape 1x84x8400 is not what "
        'kind = "nms" reads: ' + DECODERS["nms"].shapes
    )
    assert hint.endswith('these fit: kind = "yolo", boxes = "output0"')
    assert 'fit: kind = "nms", boxes = "output0" or' in refused(END_TO_END, kind="boxes", boxes="output0", scores="output0")[1]  # fmt: skip
    fit = 'kind = "centers", scores = "hm", sizes = "wh", offsets = "reg"'
    assert fit in refused(CENTERNET, kind="yolo")[1]
    fit = (
        'kind = "nms", boxes = "detection_boxes", scores = "detection_scores", '
        'labels = "detection_classes", count = "num_detections"'
    )
    assert fit in refused(TENSORFLOW, kind="yolo")[1]


def test_rows_of_box_and_score_beside_their_classes_are_suggested():
    hint = refused({"dets": (1, 100, 5), "labels": (1, 100)}, kind="nms")[1]
    assert 'fit: kind = "nms", boxes = "dets", labels = "labels" or' in hint


def test_a_classifier_fits_no_kind():
    said, hint = refused(CLASSIFIER, kind="yolo")
    assert "probabilities of shape 1x1000" in said
    assert hint == "the model's outputs: probabilities 1x1000; no decode.kind fits them"


@pytest.mark.parametrize(
    ("outputs", "keys", "key"),
    [
        (TENSORFLOW, {"count": "detection_scores"}, "count"),
        (TENSORFLOW, {"scores": "num_detections"}, "scores"),
        (TENSORFLOW, {"labels": "detection_boxes"}, "labels"),
        (TENSORFLOW, {"boxes": "detection_classes"}, "boxes"),
        (TENSORFLOW, {"rotated": True}, "boxes"),
        (END_TO_END, {"scores": "", "rotated": True, "boxes": ""}, "boxes"),
        (END_TO_END | {"m": (1, 32)}, {"scores": "", "boxes": "", "masks": "m"}, "masks"),
        (SEGMENT, {"kind": "yolo", "scores": "", "boxes": "", "masks": "output0"}, "masks"),
        (SEGMENT, {"kind": "yolo", "scores": "", "boxes": "", "keypoints": 56}, "boxes"),
        (
            {"b": (1, 9, 4), "s": (1, 9, 1)},
            {"kind": "boxes", "boxes": "b", "scores": "s", "no_object": True},
            "scores",
        ),
    ],
)
def test_the_error_names_the_key(outputs, keys, key):
    keys = {"kind": "nms", "boxes": "detection_boxes", "scores": "detection_scores"} | keys
    assert refused(outputs, **keys)[0].startswith(f"model.task.decode.{key}: output ")


@given(
    outputs=st.dictionaries(
        st.sampled_from("abc"), st.lists(st.integers(0, 9), max_size=5).map(tuple), max_size=3
    ),
    kind=st.sampled_from(list(DECODERS)),
    names=st.lists(st.sampled_from(["", *"abcd"]), min_size=7, max_size=7),
    keypoints=st.integers(0, 3),
)
def test_any_shapes_fit_or_give_the_error(outputs, kind, names, keypoints):
    keys = dict(
        zip(("boxes", "scores", "labels", "count", "sizes", "offsets", "masks"), names, strict=True)
    )
    with suppress(ConfigError):
        check_outputs(Decoding(kind=kind, keypoints=keypoints, **keys), outputs)


def test_a_model_with_very_many_outputs_gives_a_short_error():
    outputs = {f"feature_{index}": (1, 1, index) for index in range(300)}
    said, hint = refused(outputs, kind="centers", scores="x", sizes="y")
    assert len(said + hint) < 700
    assert ", ...;" in hint
