"""What would execute: TensorRT where it has a GPU, one that is elsewhere, or ONNX Runtime."""

from __future__ import annotations

import sys

import pytest

from agent.adapters.host.platform import find_platform
from agent.core.errors import BuildError
from tests.fakes import gpu as fakes
from tests.support.engine_builds import require_tensorrt

BOARD = {"board": "Orin Nano", "l4t": "36.4.3", "power_mode": "15W", "driver": "540.4.0"}
NO_DEVICE = "no CUDA-capable device is detected"


@pytest.fixture
def jetson(monkeypatch):
    """Put the two modules of a Jetson where imports look first."""
    return lambda: fakes.install(monkeypatch)


def test_a_provider_that_this_onnxruntime_lacks_is_named_with_those_it_has():
    with pytest.raises(BuildError, match="CUDAExecutionProvider") as caught:
        find_platform("onnxruntime", BOARD, "", ["CUDAExecutionProvider"])
    assert caught.value.code == "no_provider"
    assert "CPUExecutionProvider" in caught.value.hint


@pytest.mark.parametrize("kind", ["auto", "tensorrt"])
def test_tensorrt_with_a_gpu_is_used_and_the_platform_of_its_engines_is_returned(jetson, kind):
    jetson()
    found = find_platform(kind, BOARD)
    assert (found.runtime, found.runtime_version, found.device) == ("tensorrt", "10.3.0", "Orin")
    assert found.scheme == "S8S8-FP16"
    assert {key: found.environment[key] for key in ("compute_capability", *BOARD)} == {
        "compute_capability": "8.7", **BOARD,
    }  # fmt: skip


def test_without_a_gpu_auto_is_onnxruntime_and_tensorrt_an_error(jetson):
    jetson().fails["init"] = fakes.Error(f"cuInit failed: {NO_DEVICE}")
    found = find_platform("auto", BOARD)
    assert found.runtime == "onnxruntime"
    assert NO_DEVICE in found.environment["tensorrt_reason"]
    with pytest.raises(BuildError, match=NO_DEVICE) as caught:
        find_platform("tensorrt", BOARD)
    assert caught.value.code == "no_runtime"
    assert "compute_capability" in caught.value.hint


def test_a_device_that_can_not_be_used_is_no_device(jetson):
    jetson().fails["Device"] = fakes.LogicError("cuDeviceGet failed: invalid device ordinal")
    assert "invalid device ordinal" in find_platform("auto", BOARD).environment["tensorrt_reason"]


def test_a_tensorrt_that_does_not_load_is_no_tensorrt(jetson, monkeypatch):
    jetson()
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not there
    assert "no TensorRT" in find_platform("auto", BOARD).environment["tensorrt_reason"]


def test_where_tensorrt_was_not_asked_for_that_is_the_reason(jetson):
    jetson()
    found = find_platform("onnxruntime", BOARD)
    assert found.environment["tensorrt"] is None
    assert found.environment["tensorrt_reason"] == "runtime.kind is onnxruntime"


def test_a_capability_that_is_named_is_for_tensorrt_only():
    assert find_platform("auto", BOARD, "8.6").runtime == "onnxruntime"
    assert find_platform("onnxruntime", BOARD, "8.6").runtime == "onnxruntime"


@pytest.mark.slow
def test_a_gpu_elsewhere_is_named_by_its_capability(jetson):
    require_tensorrt()
    jetson()  # the full TensorRT beside it can't build for another GPU, and is left alone
    found = find_platform("tensorrt", BOARD, "8.6")
    assert found.device == "compute capability 8.6"
    assert found.runtime_version.startswith("RTX ")
    assert found.environment["tensorrt"] == found.runtime_version
    with pytest.raises(BuildError) as caught:
        find_platform("tensorrt", BOARD, "8.7")
    assert caught.value.code == "no_capability"
