"""What would execute: TensorRT where it has a GPU, one that is elsewhere, or ONNX Runtime."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from agent.adapters.platform_local import find_platform
from agent.core.errors import BuildError
from tests.support.engine_builds import require_tensorrt

BOARD = {"board": "Orin Nano", "l4t": "36.4.3", "power_mode": "15W", "driver": "540.4.0"}


def module(name: str, **members: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(members)
    return made


class Gpu:
    """A pycuda device; of a driver that has none if asked so."""

    def __init__(self, index: int) -> None:
        assert index == 0

    def name(self) -> str:
        return "Orin"

    def compute_capability(self) -> tuple[int, int]:
        return (8, 7)


def no_driver() -> None:
    raise RuntimeError("cuInit failed: no CUDA-capable device is detected")


@pytest.fixture
def jetson(monkeypatch):
    """Put the two modules of a Jetson where imports look first."""

    def give(init=lambda: None):
        driver = module("pycuda.driver", init=init, Device=Gpu)
        monkeypatch.setitem(sys.modules, "tensorrt", module("tensorrt", __version__="10.3.0"))
        monkeypatch.setitem(sys.modules, "pycuda", module("pycuda", driver=driver))
        monkeypatch.setitem(sys.modules, "pycuda.driver", driver)

    return give


def test_a_provider_that_this_onnxruntime_lacks_is_named_with_those_it_has():
    with pytest.raises(BuildError, match="CUDAExecutionProvider") as told:
        find_platform("onnxruntime", BOARD, "", ["CUDAExecutionProvider"])
    assert told.value.code == "no_provider"
    assert "CPUExecutionProvider" in told.value.hint


@pytest.mark.parametrize("kind", ["auto", "tensorrt"])
def test_tensorrt_with_a_gpu_is_taken_and_what_its_engines_hold_for_is_told(jetson, kind):
    jetson()
    found = find_platform(kind, BOARD)
    assert (found.runtime, found.runtime_version, found.device) == ("tensorrt", "10.3.0", "Orin")
    assert found.scheme == "S8S8"
    assert {key: found.environment[key] for key in ("compute_capability", *BOARD)} == {
        "compute_capability": "8.7", **BOARD,
    }  # fmt: skip


def test_without_a_gpu_auto_is_onnxruntime_and_tensorrt_an_error(jetson):
    jetson(init=no_driver)
    assert find_platform("auto", BOARD).runtime == "onnxruntime"
    with pytest.raises(BuildError) as caught:
        find_platform("tensorrt", BOARD)
    assert caught.value.code == "no_runtime"
    assert "compute_capability" in caught.value.hint


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
