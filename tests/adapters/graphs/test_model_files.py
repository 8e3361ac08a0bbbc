"""Files that show what people bring (`tests/fixtures/models`), each with its right value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.fidelity.comparison import Comparison
from agent.core.fidelity.decoding import Decoding
from agent.core.frames.input_spec import InputSpec
from agent.graphs.batches import with_batch
from tests.support.onnx_runs import Inputs, run, sqnr_db
from tests.support.precisions import SCHEMES, cleaned, conditioned, frames_of, half, int8

MODELS = Path(__file__).parents[2] / "fixtures" / "models"


def load(name: str) -> onnx.ModelProto:
    return onnx.load(MODELS / f"{name}.onnx")


def losses_db(
    model: onnx.ModelProto, folder: Path, *, layers: int, floating: tuple[str, ...] = ()
) -> dict[str, list[float]]:
    """Return the worst SQNR of each output over frames by precision, against the file itself.

    Args:
        model: The user's file.
        folder: Where graphs are written.
        layers: Convolutions and matrix products; those not in `floating` must be in INT8.
        floating: Names of the layers that can't be quantized.
    """
    _, path = cleaned(model, folder)
    frames = frames_of(path)
    targets = {"fp32": path, "fp16": half(path, folder)}
    for scheme in SCHEMES:
        conditioned(path, folder, scheme)
        targets[scheme], share, kept = int8(path, folder, scheme)
        assert (share, kept) == (1.0, floating)
        assert integer_layers(targets[scheme]) == layers - len(floating)
    wanted = [run(str(folder / "raw.onnx"), frame) for frame in frames]
    return {
        precision: [
            min(losses)
            for losses in zip(*(lost_db(outputs, target, frame)
                                for outputs, frame in zip(wanted, frames, strict=True)), strict=True)
        ]
        for precision, target in targets.items()
    }  # fmt: skip


def lost_db(wanted: list[np.ndarray], target: str, frame: Inputs) -> list[float]:
    found = run(target, frame)
    return [sqnr_db(one, other) for one, other in zip(wanted, found, strict=True)]


def integer_layers(path: str) -> int:
    """Return how many layers read both inputs from DequantizeLinear."""
    graph = onnx.load(path).graph
    dequantized = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    return sum(
        node.op_type in {"Conv", "MatMul", "Gemm"} and dequantized.issuperset(node.input[:2])
        for node in graph.node
    )


def assert_at_least(losses: dict[str, list[float]], fp16_db: float, int8_db: float) -> None:
    floors = {"fp32": 120.0, "fp16": fp16_db} | dict.fromkeys(SCHEMES, int8_db)
    assert {p: [min(x, floors[p]) for x in found] for p, found in losses.items()} == {
        p: [floors[p]] * len(found) for p, found in losses.items()
    }


@pytest.mark.parametrize(("name", "layers"), [("group_norm", 2), ("gemm_bias", 2), ("if_body", 1)])
def test_every_precision_is_offered_and_near_to_the_file(tmp_path, name, layers):
    """Shapes that inference does not find; a Gemm whose C is one number; an If that reads a Relu."""
    assert_at_least(losses_db(load(name), tmp_path, layers=layers), 60, 30)


def test_a_constant_output_is_the_same_bytes_in_every_precision(tmp_path):
    losses = losses_db(load("constant_output"), tmp_path, layers=2)
    assert_at_least({p: found[:1] for p, found in losses.items()}, 60, 35)
    assert {found[1] for found in losses.values()} == {np.inf}


def test_a_fixed_batch_becomes_1_with_the_outputs_of_each_picture(tmp_path):
    record, path = cleaned(load("fixed_batch"), tmp_path)
    assert (record.inputs[0].shape, record.outputs[0].shape) == ((1, 3, 64, 64), (1, 84, 256))
    assert any("fixed batch 1" in change for change in record.changes)
    frames = frames_of(path, 4)
    (whole,) = run(
        str(tmp_path / "raw.onnx"), {"x": np.concatenate([frame["x"] for frame in frames])}
    )
    targets = {path: 120.0, half(path, tmp_path): 60.0}
    targets |= {int8(path, tmp_path, scheme)[0]: 30.0 for scheme in SCHEMES}
    for target, least_db in targets.items():
        for index, frame in enumerate(frames):
            assert lost_db([whole[index : index + 1]], target, frame)[0] > least_db


def test_a_free_batch_stays_free(tmp_path):
    _, path = cleaned(load("free_batch"), tmp_path)
    frames = frames_of(path, 3)
    together = {"x": np.concatenate([frame["x"] for frame in frames])}
    (wanted,) = run(str(tmp_path / "raw.onnx"), together)
    targets = {path: 120.0, half(path, tmp_path): 60.0}
    targets |= {int8(path, tmp_path, scheme)[0]: 30.0 for scheme in SCHEMES}
    for target, least_db in targets.items():
        (found,) = run(with_batch(onnx.load(target), 3), together)
        assert sqnr_db(wanted, found) > least_db


def as_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the half-precision file computed in float32, with the same weights."""
    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    for value in (*wider.graph.input, *wider.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for tensor in wider.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return wider


def test_a_half_precision_file_is_computed_in_float32_exactly(tmp_path):
    spec = InputSpec(width=0, height=0, dtype="float16")
    record, path = cleaned(load("half_precision"), tmp_path, spec)
    assert (record.inputs[0].dtype, record.outputs[0].dtype) == ("float16", "float16")
    frames = frames_of(path)
    wider = as_float32(load("half_precision"))
    wanted = [run(wider, {"x": frame["x"].astype(np.float32)})[0] for frame in frames]
    for frame, expected in zip(frames, wanted, strict=True):
        np.testing.assert_array_equal(run(path, frame)[0], expected.astype(np.float16))
    targets = {half(path, tmp_path): 55.0}
    for scheme in SCHEMES:
        conditioned(path, tmp_path, scheme)
        target, share, kept = int8(path, tmp_path, scheme)
        assert (share, kept) == (1.0, ())
        targets[target] = 35.0
    for target, least_db in targets.items():
        for frame, expected in zip(frames, wanted, strict=True):
            assert lost_db([expected], target, frame)[0] > least_db


def test_a_quantized_file_is_offered_as_given_and_in_float(tmp_path):
    record, path = cleaned(load("quantized"), tmp_path)
    assert (record.quantized, record.baseline) == ("4 DequantizeLinear, 2 QuantizeLinear", "fp32")
    assert record.macs == 737_280
    given = str(tmp_path / "given.onnx")
    assert OnnxQuantizer(1).take_as_given(path, "S8S8-FP16", given) == (1.0, ())
    frames = [{"x": np.clip(frame["x"] / 3, -1, 1)} for frame in frames_of(path)]  # its range
    targets = {half(path, tmp_path, frames): 60.0, given: 35.0}
    targets |= {int8(path, tmp_path, scheme, frames)[0]: 35.0 for scheme in SCHEMES}
    for frame in frames:
        wanted = run(path, frame)
        for target, least_db in targets.items():
            assert lost_db(wanted, target, frame)[0] > least_db
        np.testing.assert_array_equal(run(given, frame), run(str(MODELS / "quantized.onnx"), frame))


def others(rows: np.ndarray, found: np.ndarray, away: float = 0.1) -> int:
    """Return how many of the rows found are none of those wanted, in whatever order."""
    nearest = np.abs(rows[:, None] - found[None]).max(axis=-1).min(axis=0)
    return int(np.count_nonzero(nearest > away))


def test_a_second_stage_runs_in_float_and_is_named(tmp_path):
    record, path = cleaned(load("two_stage"), tmp_path)
    assert [c for c in record.changes if c.endswith("stay in float and are not counted: fc")]
    frames = frames_of(path)
    dark = {"x": np.zeros_like(frames[0]["x"])}
    target = half(path, tmp_path)
    for frame in frames:
        (wanted,) = run(str(tmp_path / "raw.onnx"), frame)
        assert len(wanted) > 100
        np.testing.assert_array_equal(run(path, frame)[0], wanted)
        assert others(wanted, run(target, frame)[0]) < 0.01 * len(wanted)
    for scheme in SCHEMES:
        conditioned(path, tmp_path, scheme)
        target, share, kept = int8(path, tmp_path, scheme)
        assert (share, kept) == (1.0, ("fc",))
        assert run(target, dark)[0].shape == (0, 5)
        rows, wanted = (len(run(p, frames[0])[0]) for p in (target, path))
        assert abs(rows - wanted) < 0.05 * wanted


def test_rows_by_score_are_the_same_rows_in_float16(tmp_path):
    record, path = cleaned(load("top_k"), tmp_path)
    assert [one.shape for one in record.outputs] == [(1, 100, 4), (1, 100)]
    target = half(path, tmp_path)
    for frame in frames_of(path, 3):
        wanted = run(str(tmp_path / "raw.onnx"), frame)
        np.testing.assert_array_equal(run(path, frame)[0], wanted[0])
        boxes, scores = run(target, frame)
        assert sqnr_db(wanted[1], scores) > 60
        assert others(wanted[0][0], boxes[0]) <= 5  # the last few are others of equal score
    for scheme in SCHEMES:
        assert int8(path, tmp_path, scheme)[1:] == (1.0, ())


def before_the_lists(path: str, frame: Inputs) -> list[np.ndarray]:
    """Return all boxes and scores, cell by cell, from which TopK picks, and the cells it picks."""
    model = onnx.load(path)
    nodes = {node.op_type: node for node in model.graph.node}
    names = [nodes["GatherElements"].input[0], nodes["TopK"].input[0], nodes["TopK"].output[1]]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return run(model, frame)


def test_rows_by_score_have_the_fidelity_of_what_they_are_picked_from(tmp_path):
    """Compared place by place, even float16 has 12 dB: those are of their order."""
    record, path = cleaned(load("top_k"), tmp_path)
    assert [(one.axes, one.count) for one in record.ranked] == [({"boxes": 1, "scores": 1}, 100)]
    frames = frames_of(path, 4)
    targets = [half(path, tmp_path), *(int8(path, tmp_path, s, frames)[0] for s in SCHEMES)]
    wanted = [before_the_lists(path, frame) for frame in frames]
    rows = [dict(zip(("boxes", "scores"), run(path, frame), strict=True)) for frame in frames]
    for target in targets:
        comparison, in_order = Comparison("generic", ranked=record.ranked), Comparison("generic")
        found = [before_the_lists(target, frame) for frame in frames]
        for frame, expected in zip(frames, rows, strict=True):
            seen = dict(zip(("boxes", "scores"), run(target, frame), strict=True))
            comparison.add(expected, seen)
            in_order.add(expected, seen)
        assert in_order.result().per_output_sqnr_db["boxes"] < 15
        fidelity = comparison.result().per_output_sqnr_db
        for index, name in enumerate(("boxes", "scores")):
            right, near = (
                np.array(
                    [one[index][0, best[0]] for one, (*_, best) in zip(each, wanted, strict=True)]
                )
                for each in (wanted, found)
            )
            truth = sqnr_db(right, near)
            assert truth > 40
            assert fidelity[name] == pytest.approx(truth, abs=1)


def test_scores_beside_pixels_are_judged_by_themselves(tmp_path):
    _, path = cleaned(load("yolo_head"), tmp_path)
    drawn = np.random.default_rng(0)
    judged = [Comparison("detection", None, Decoding(kind="yolo")) for _ in range(2)]
    target = half(path, tmp_path, [{"x": drawn.random((1, 3, 320, 320), np.float32)}])
    for _ in range(4):
        frame = {"x": drawn.random((1, 3, 320, 320), np.float32)}
        wanted, near = (run(p, frame)[0] for p in (path, target))
        blind = wanted.copy()
        blind[:, 4:] = 0
        assert sqnr_db(wanted, blind) > 40  # over all channels the scores don't count
        for comparison, outputs in zip(judged, (near, blind), strict=True):
            comparison.add({"y": wanted}, {"y": outputs})
    good, bad = (comparison.result() for comparison in judged)
    assert [group.channels for group in bad.sqnr_groups] == ["4-6", "0-3"]
    assert bad.sqnr_db == pytest.approx(0)
    assert bad.agreement == 0
    assert good.sqnr_db is not None
    assert good.sqnr_db > 50
    assert good.agreement is not None
    assert good.agreement > 0.9
