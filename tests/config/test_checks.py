"""The checks of a configuration, key by key."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np
import pytest

from agent import config as configuration
from agent.config.tables import Decode
from agent.core.errors import CameraError, ConfigError
from agent.core.fidelity.decoding import Decoding
from agent.core.frames.camera_uri import CAMERAS
from agent.core.frames.pixels import PIXELS
from agent.core.frames.preprocess import to_tensor
from agent.jobs.frames import open_camera


def load(tmp_path: Path, text: str) -> configuration.Config:
    path = tmp_path / "quantd.toml"
    path.write_text(text)
    return configuration.load(path)


@pytest.mark.parametrize("expression", ["daily", "61 * * * *", "* * * *", "0 0 31 2 *"])
@pytest.mark.parametrize("key", ["reoptimize", "window"])
def test_a_schedule_that_is_no_cron_expression_is_refused(
    tmp_path: Path, key: str, expression: str
) -> None:
    with pytest.raises(ConfigError, match=f"schedule.{key}"):
        load(tmp_path, f'[schedule]\n{key} = "{expression}"\n')


@pytest.mark.parametrize(
    ("uri", "near"),
    [
        ("rstp://user:secret@10.0.0.9/1", "rtsp"),
        ("htttp://user:secret@10.0.0.9/1", "http"),
        ("gopher://user:secret@10.0.0.9/1", ""),
        ("rtsp:/user:secret@10.0.0.9/1", "rtsp"),
        ("user:secret@10.0.0.9", ""),
        ("/dev/video0", ""),
    ],
)
def test_a_camera_that_is_none_is_refused_with_what_there_is_and_without_its_password(
    tmp_path: Path, uri: str, near: str
) -> None:
    with pytest.raises(ConfigError, match=r"camera\.uri") as caught:
        load(tmp_path, f'[camera]\nuri = "{uri}"\n')
    shown = f"{caught.value.message} {caught.value.hint}"
    assert "secret" not in shown
    assert "v4l2:///dev/video0, csi://0, rtsp://" in shown
    assert (f"did you mean {near}://?" in shown) is bool(near)


@pytest.mark.parametrize("scheme", [*CAMERAS, "RTSP"])
def test_every_camera_that_is_allowed_can_be_opened(tmp_path: Path, scheme: str) -> None:
    found = load(tmp_path, f'[camera]\nuri = "{scheme}://0/x"\n')
    with contextlib.suppress(CameraError):  # which knows it, but has it not here
        open_camera(found)


def test_labels_name_no_password_of_a_camera_without_a_scheme(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, '[camera]\nuri = "rtsp://u:secret@h"\n[model.task]\n'
             'kind = "classification"\nlabels = "l.csv"\n')  # fmt: skip
    assert "secret" not in caught.value.message


def without_effect(tmp_path: Path, text: str) -> tuple[str, ...]:
    load(tmp_path, text)
    return configuration.without_effect(*configuration.load_with_origin(tmp_path / "quantd.toml"))


def test_a_key_that_nothing_listens_to_is_named(tmp_path: Path) -> None:
    drift = "[drift]\nagreement_below = 0.0\ncheck_every_s = 60.0\n"
    idle = without_effect(tmp_path, "[runtime]\ndla_core = 1\n" + drift)
    assert idle == ("drift.agreement_below", "drift.check_every_s")
    assert without_effect(tmp_path, "") == ()


def test_a_capability_is_for_tensorrt_by_name_only(tmp_path: Path) -> None:
    table = '[runtime]\ncompute_capability = "8.6"\n'
    key = "runtime.compute_capability"
    assert without_effect(tmp_path, table) == (key,)
    assert without_effect(tmp_path, table + 'kind = "tensorrt"\n') == ()


@pytest.mark.parametrize("value", ["86", "SM86", "8.", ".6", "8.66", "0.1", "8.6 ", "8.٦"])
def test_what_is_no_compute_capability_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=r"runtime\.compute_capability"):
        load(tmp_path, f'[runtime]\nkind = "tensorrt"\ncompute_capability = "{value}"\n')


@pytest.mark.parametrize(
    ("name", "black", "white"),
    [
        ("0..255", [0, 0, 0], [255, 255, 255]),
        ("0..1", [0, 0, 0], [1, 1, 1]),
        ("-1..1", [-1, -1, -1], [1, 1, 1]),
        ("imagenet", [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
         [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]),
        ("caffe-bgr", [-103.939, -116.779, -123.68], [151.061, 138.221, 131.32]),
    ],
)  # fmt: skip
def test_a_preset_gives_the_model_the_pixels_that_it_names(
    tmp_path: Path, name: str, black: list[float], white: list[float]
) -> None:
    loaded = load(tmp_path, f'[model.input]\nwidth = 1\nheight = 1\npixels = "{name}"\n')
    spec = loaded.model.input.spec
    for level, expected in ((0, black), (255, white)):
        found = to_tensor(np.full((1, 1, 3), level, np.uint8), spec)
        assert found.ravel() == pytest.approx(expected, abs=1e-4)
    assert spec.color == ("BGR" if name == "caffe-bgr" else "RGB")


def test_a_preset_is_shown_as_the_origin_of_what_it_sets(tmp_path: Path) -> None:
    file = tmp_path / "quantd.toml"
    file.write_text('[model.input]\npixels = "caffe-bgr"\n')
    loaded, origin = configuration.load_with_origin(file)
    assert loaded.model.input.pixels == "caffe-bgr"
    assert loaded.model.input.in_effect()["mean"] == (103.939, 116.779, 123.68)
    origin_of_pixels = f'pixels = "caffe-bgr" ({file})'
    assert origin == {
        "model.input.pixels": str(file),
        **{f"model.input.{key}": origin_of_pixels for key in ("scale", "mean", "std", "color")},
    }


@pytest.mark.parametrize("key", ["scale = 1.0", "mean = [0.0]", "std = [1.0]", 'color = "BGR"'])
def test_a_preset_and_a_value_that_it_sets_are_one_too_many(tmp_path: Path, key: str) -> None:
    (tmp_path / "card.toml").write_text(f"[input]\n{key}\n")
    text = '[model]\ncard = "card.toml"\ninput.pixels = "imagenet"\n'
    with pytest.raises(ConfigError, match=r"model\.input\.pixels") as caught:
        load(tmp_path, text)
    assert key.split(maxsplit=1)[0] in caught.value.message
    assert "card.toml" in caught.value.message
    assert load(tmp_path, text.replace("imagenet", "")).model.input.pixels == ""


def test_a_preset_for_any_order_of_channels_leaves_it(tmp_path: Path) -> None:
    assert (
        load(tmp_path, '[model.input]\npixels = "0..1"\ncolor = "GRAY"\n').model.input.color
        == "GRAY"
    )
    assert load(tmp_path, '[model.input]\npixels = "imagenet"\ncolor = "RGB"\n')


def test_a_preset_that_is_none_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.input\.pixels") as caught:
        load(tmp_path, '[model.input]\npixels = "0-1"\n')
    assert all(name in caught.value.hint for name in PIXELS)


def decoded(tmp_path: Path, table: str, kind: str = "detection") -> configuration.Config:
    return load(tmp_path, f'[model.task]\nkind = "{kind}"\n[model.task.decode]\n{table}')


@pytest.mark.parametrize(
    "table",
    [
        'kind = "yolo"\nobjectness = true\n',
        'kind = "boxes"\nboxes = "b"\nscores = "s"\nlabels = "c"\noverlap = 1.0\n',
        'kind = "centers"\nscores = "h"\nsizes = "s"\nsize = "log"\norder = "yx"\n',
        'kind = "nms"\n',
        'kind = "nms"\nboxes = "dets"\nlabels = "labels"\n',
        'kind = "nms"\nboxes = "b"\nscores = "s"\nlabels = "c"\ncount = "n"\nformat = "yxyx"\n',
        'kind = "yolo"\nmasks = "output1"\nstride = 8\n',
    ],
)
def test_each_way_to_decode_boxes_is_taken(tmp_path: Path, table: str) -> None:
    loaded = decoded(tmp_path, table)
    assert configuration.from_dump(configuration.dump(loaded)) == loaded


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('kind = "ssd"\n', "model.task.decode.kind"),
        ('kind = "boxes"\nboxes = "b"\n', "model.task.decode.scores is empty"),
        ('kind = "centers"\nscores = "h"\n', "model.task.decode.sizes is empty"),
        ('kind = "yolo"\nsizes = "s"\n', "model.task.decode.sizes means nothing"),
        ('boxes = "b"\n', "model.task.decode.boxes means nothing"),
        ('kind = "yolo"\nnms = 0.5\n', "unknown key model.task.decode.nms"),
        ('kind = "nms"\noverlap = 0.5\n', "model.task.decode.overlap means nothing"),
        ('kind = "yolo"\nmasks = "m"\nrotated = true\n', "has masks and rotated"),
        (
            'kind = "boxes"\nboxes = "b"\nscores = "s"\nlogits = true\nsoftmax = true\n',
            "has logits and softmax",
        ),
    ],
)
def test_a_decoding_that_can_not_be_is_refused(tmp_path: Path, table: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        decoded(tmp_path, table)
    assert caught.value.hint


def test_labels_need_classes_or_boxes_and_frames_with_names(tmp_path: Path) -> None:
    task = '[model.task]\nkind = "classification"\nlabels = "l.csv"\n'
    for uri in ("images:///pictures", "profile:///p.csv"):
        loaded = load(tmp_path, f'[camera]\nuri = "{uri}"\n{task}')
        assert loaded.model.task.labels == str(tmp_path / "l.csv")
    with pytest.raises(ConfigError, match=r"frames with names, but camera.uri is rtsp://"):
        load(tmp_path, f'[camera]\nuri = "rtsp://host/1"\n{task}')
    with pytest.raises(ConfigError, match=r"labels is for"):
        load(tmp_path, task.replace("classification", "segmentation"))
    with pytest.raises(ConfigError, match=r"needs boxes, but model.task.decode.kind is empty"):
        load(tmp_path, task.replace("classification", "detection"))
    with pytest.raises(ConfigError, match=r"categories = .* is for the labels of kind"):
        load(tmp_path, f'{task}categories = "id"\n')
    decoded(tmp_path, 'kind = "yolo"\nunit = "fractions"\n')
    with pytest.raises(ConfigError, match=r"decode.unit means nothing with kind = .centers"):
        decoded(tmp_path, 'kind = "centers"\nscores = "s"\nsizes = "z"\nunit = "fractions"\n')


def test_boxes_are_for_detection_and_its_agreement_limit_needs_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"decode is for"):
        decoded(tmp_path, 'kind = "yolo"\n', kind="classification")
    with pytest.raises(ConfigError, match=r"limits.agreement needs boxes"):
        load(tmp_path, '[model.task]\nkind = "detection"\n[limits]\nagreement = 0.9\n')
    decoded(tmp_path, 'kind = "yolo"\n[limits]\nagreement = 0.9\n')


def test_a_decoding_that_says_nothing_is_the_default_of_the_configuration():
    """The two are apart since the core knows no msgspec: names and defaults must agree."""
    assert asdict(Decoding(kind="")) == msgspec.structs.asdict(Decode())


def test_pixels_that_are_probably_not_what_is_meant_are_questioned(tmp_path):
    def doubts(text: str) -> tuple[str, ...]:
        file = tmp_path / "quantd.toml"
        file.write_text(f'[model]\npath = "m.onnx"\n[model.input]\n{text}')
        return configuration.doubts(*configuration.load_with_origin(file))

    (found,) = doubts("mean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]")
    assert "is scale = 0.003921569 (1/255) meant?" in found
    (found,) = doubts("")
    assert "nothing states which values of pixels" in found
    assert doubts('pixels = "0..255"') == doubts("scale = 1.0") == doubts('dtype = "uint8"') == ()


@pytest.mark.parametrize(
    "labels",
    [
        '{ site = "n\\u0000" }',
        '{ site = "" }',
        f'{{ {"s" * 129} = "n" }}',
        "{ " + ", ".join(f'l{n} = "x"' for n in range(65)) + " }",
    ],
)
def test_labels_that_no_consumer_takes_are_refused(tmp_path: Path, labels: str) -> None:
    with pytest.raises(ConfigError, match=r"device\.labels has"):
        load(tmp_path, f"[device]\nlabels = {labels}\n")
    assert load(tmp_path, '[device]\nlabels = { "site a" = "Nord-Süd" }\n').device.labels
