"""A whole run with a file that is quantized already."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.support.quantized_files import quantized
from tests.support.scene import quantd, write_config, write_model

pytestmark = pytest.mark.slow


def optimized(folder: Path, model: onnx.ModelProto) -> dict:
    """Return the report of a run; every candidate may be activated."""
    onnx.save(model, folder / "given.onnx")
    config = write_config(
        folder,
        model={"path": str(folder / "given.onnx")},
        search={"precisions": ["fp32", "int8"], "calibrators": ["minmax"]},
        limits={"agreement": 0},
    )
    done = quantd("optimize", "-c", config, "--json", timeout_s=280)
    assert done.returncode == 0, done.stderr
    assert "model_is_quantized" in done.stderr
    return json.loads(done.stdout)


def float_model(folder: Path) -> str:
    return str(write_model(folder / "float.onnx", batch=1))


@pytest.mark.parametrize("kind", ["QDQ-U8", "QOperator-U8", "dynamic"])
def test_as_given_is_measured_beside_fp32_and_int8(tmp_path, kind):
    report = optimized(tmp_path, quantized(float_model(tmp_path), kind))
    assert report["model"]["baseline"] == "fp32"
    by_id = {c["id"]: c for c in report["candidates"]}
    given, fp32 = by_id["as-given"], by_id["fp32"]
    assert (given["precision"], given["calibrator"]) == ("as-given", None)
    assert given["int8_macs_fraction"] == pytest.approx(1)
    assert fp32["fidelity"]["sqnr_db"] is None
    assert given["fidelity"]["sqnr_db"] > 15
    assert by_id["int8-minmax"]["fidelity"]["sqnr_db"] > 15
    for one in (given, fp32, by_id["int8-minmax"]):
        assert one["measured"]["latency_ms"]["p50"] > 0
        assert one["verdict"] in {"chosen", "feasible"}


def test_a_file_without_fp32_is_its_own_baseline(tmp_path):
    model = quantized(float_model(tmp_path), "QDQ-U8")
    last = model.graph.node[-1]
    model.graph.node.remove(last)  # the output is of codes then
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info(last.input[0], TensorProto.UINT8, [1, 1, 32, 32])
    )
    report = optimized(tmp_path, model)
    assert report["model"]["baseline"] == "as-given"
    by_id = {c["id"]: c for c in report["candidates"]}
    assert "fp32" not in by_id
    assert by_id["as-given"]["verdict"] == "chosen"
    assert by_id["as-given"]["fidelity"]["sqnr_reason"] == "identical to the baseline"
    assert "quantized already" in by_id["int8-minmax"]["reasons"][0]
    assert "no FP32 can be made of it" in report["choice"]["why"]
