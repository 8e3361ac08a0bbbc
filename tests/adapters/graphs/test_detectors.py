"""Exports of detectors through the intake and each precision, judged by their own objects."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from agent.core.fidelity.comparison import Comparison
from agent.core.fidelity.decoders import check_outputs
from tests.support.detector_heads import HEADS, SIDE, detector
from tests.support.onnx_runs import run
from tests.support.precisions import SCHEMES, cleaned, half, int8

RNG = np.random.default_rng(0)
FRAMES = [{"image": RNG.standard_normal((1, 3, SIDE, SIDE)).astype(np.float32)} for _ in range(4)]


def named(path, frame):
    names = [output.name for output in onnx.load(path).graph.output]
    return dict(zip(names, run(path, frame), strict=True))


def compared(record, decoding, pairs):
    comparison = Comparison("detection", None, decoding, ranked=record.ranked)
    for expected, seen in pairs:
        comparison.add(expected, seen)
    return comparison.result()


def without_scores(outputs, head):
    """Return outputs with every score at its lowest, as of an engine that sees nothing."""
    name = next(
        one for one in ("output0", "logits", "scores", "detection_scores") if one in outputs
    )
    values = outputs[name].copy()
    if name == "logits":
        values[:] = [-9, -9, -9, 9][: values.shape[2]]
    elif name != "output0":
        values[:] = 0
    elif head == "end to end":
        values[..., 4] = 0
    elif head == "yolo with objectness":
        values[..., 4:] = 0
    else:
        values[:, 4:] = 0
    return outputs | {name: values}


@pytest.fixture
def made(head, tmp_path):
    """Return the record of the intake, the clean graph and its outputs on the frames."""
    record, path = cleaned(onnx.load(detector(head, tmp_path)), tmp_path)
    return record, path, [named(path, frame) for frame in FRAMES]


@pytest.mark.parametrize("head", HEADS)
def test_a_head_is_judged_by_its_own_objects(head, made, tmp_path):
    record, _, wanted = made
    decoding = HEADS[head][1]
    check_outputs(decoding, {output.name: output.shape for output in record.outputs})
    file = [named(str(tmp_path / "raw.onnx"), frame) for frame in FRAMES]
    same = compared(record, decoding, zip(file, wanted, strict=True))
    assert (same.agreement, same.judged_frames) == (pytest.approx(1), len(FRAMES))
    blind = compared(record, decoding, [(one, without_scores(one, head)) for one in wanted])
    assert blind.agreement == 0
    assert blind.summary.startswith("finds 0 % of FP32's ")


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_layers_in_front_of_any_head_are_quantized(head, made, tmp_path):
    record, path, wanted = made
    targets = {"fp16": half(path, tmp_path, FRAMES)}
    for scheme in SCHEMES:
        targets[scheme], share, floating = int8(path, tmp_path, scheme, FRAMES)
        assert (share, floating) == (1.0, ())
    found = {}
    for name, target in targets.items():
        seen = [named(target, frame) for frame in FRAMES]
        found[name] = compared(record, HEADS[head][1], zip(wanted, seen, strict=True))
        assert found[name].judged_frames == len(FRAMES)
    assert found["fp16"].agreement > 0.95
    assert found["S8S8"].agreement > 0.5
