"""Layers from TensorRT's inspector, in the shape that its developer guide documents."""

from __future__ import annotations

import pytest

from agent.engines.layers import count

NETWORK = [
    {"name": "stem", "type": "CONVOLUTION", "precision": "INT8"},
    {"name": "q", "type": "QUANTIZE", "precision": "INT8"},
    {"name": "head", "type": "MATRIX_MULTIPLY", "precision": "HALF"},
    {"name": "relu", "type": "ACTIVATION", "precision": "HALF"},
]
ENGINE = {
    "Layers": [
        {"Name": "r", "LayerType": "Reformat"},
        {"Name": "a", "LayerType": "CaskConvolution", "Weights": {"Type": "Int8", "Count": 9},
         "Inputs": [{"Format/Datatype": "Thirty-two wide channel vectorized row major Int8"}]},
        {"Name": "b", "LayerType": "CaskConvolution", "Weights": {"Type": "Half", "Count": 9}},
        {"Name": "c", "LayerType": "gemm", "Inputs": [{"Format/Datatype": "Row major linear FP32"}]},
        {"Name": "d", "LayerType": "kgen"},
        {"Name": "e", "LayerType": "CaskGemmConvolution", "Weights": "odd", "Inputs": []},
    ]
}  # fmt: skip


def test_the_engine_counts_where_it_lists_its_layers():
    found = count(NETWORK, ENGINE)
    assert (found.int8, found.fp16, found.fp32) == (1, 1, 1)
    assert (found.conversions, found.others) == (1, 2)
    assert "inspector" in found.told_by


@pytest.mark.parametrize("engine", [None, {}, {"Layers": ["only", "names"]}, [], "text"])
def test_without_the_engine_the_network_counts_and_that_is_reported(engine):
    found = count(NETWORK, engine)
    assert (found.int8, found.fp16, found.fp32) == (1, 1, 0)
    assert (found.conversions, found.others) == (1, 1)
    assert "not loaded" in found.told_by
