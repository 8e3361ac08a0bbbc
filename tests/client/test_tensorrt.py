"""A release for TensorRT, over a stand-in for the GPU: TensorRT can't execute without one.

What the stand-in shows: buffers, copies, streams, the graph, and that all is given back. Not shown:
that TensorRT computes, or how fast.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.client import Release, ReleaseError
from tests.client.test_release import FRAME, SPEC, echo
from tests.fakes import cuda_driver
from tests.fakes.cuda_graphs import NAME, Status
from tests.support.releases import write_release

MADE_FOR = {"kind": "tensorrt", "version": "10.3.0", "device": "Orin", "compute_capability": "8.7",
            "providers": []}  # fmt: skip


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[cuda_driver.Device]:
    found = cuda_driver.install(monkeypatch)
    yield found
    assert found.clean


def made(tmp_path: Path, launched: str | None = "plain launches", **runtime: Any) -> Release:
    model = echo(tmp_path / "m.onnx", add=1.0)
    return Release(
        write_release(
            tmp_path / "r", model, SPEC, launched=launched, runtime={**MADE_FOR, **runtime}
        )
    )


def refused(release: Release) -> ReleaseError:
    with pytest.raises(ReleaseError) as caught, release:
        pass
    return caught.value


@pytest.mark.parametrize(
    ("launched", "graphs"), [("CUDA graph", 1), ("plain launches", 0), (None, 0)]
)
def test_outputs_are_the_engines_and_launches_are_as_measured(tmp_path, device, launched, graphs):
    with made(tmp_path, launched) as release:
        tensor = release.tensor([FRAME])
        first = release.run(tensor)["y"]
        device.gpu.calls.clear()
        second = release.run(tensor + 1)["y"]
        assert device.gpu.calls.count("cuGraphLaunch") == graphs
        assert device.gpu.calls.count("execute") == 1 - graphs
    assert (first == tensor + 1).all()  # a copy: the second run does not change it
    assert (second == tensor + 2).all()


def test_the_applications_own_context_stays_current(tmp_path, device):
    with made(tmp_path) as release:
        before = list(device.gpu.stack)
        release(FRAME)
        assert device.gpu.stack == before


def test_a_reload_gives_back_what_the_earlier_engine_had(tmp_path, device):
    release = made(tmp_path)
    with release:
        write_release(tmp_path / "r", tmp_path / "m.onnx", SPEC, release="r2", runtime=MADE_FOR)
        assert release.reload_if_changed()
        assert device.retained == 1
        assert (release(np.zeros_like(FRAME))["y"] == 1).all()


@pytest.mark.parametrize(
    ("runtime", "code", "words"),
    [
        ({"version": "10.7.0"}, "other_version", "TensorRT 10.7.0, this is 10.3.0"),
        ({"version": "RTX 1.7.1.116"}, "no_runtime", "TensorRT RTX 1.7.1.116, which can't be"),
        ({"device": "NVIDIA Thor"}, "other_device", "device NVIDIA Thor, this GPU is Orin"),
        ({"compute_capability": "11.0"}, "other_device", "capability 11.0, this GPU is 8.7"),
    ],
)
def test_an_engine_of_another_machine_is_refused(
    tmp_path, device, monkeypatch, runtime, code, words
):
    for name in ("tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    error = refused(made(tmp_path, **runtime))
    assert (error.code, words in error.message) == (code, True), error.message
    assert error.hint
    assert "deserialize" not in device.gpu.calls


@pytest.mark.parametrize(
    ("missing", "words"),
    [("tensorrt", "TensorRT 10.3.0, which can't be imported"), (NAME, "cuda-bindings is missing")],
)
def test_a_missing_library_is_named(tmp_path, device, monkeypatch, missing, words):
    monkeypatch.setitem(sys.modules, missing, None)
    error = refused(made(tmp_path))
    assert error.code == "no_runtime"
    assert words in error.message


def test_no_driver_is_no_runtime(tmp_path, device):
    device.fails["cuInit"] = Status.CUDA_ERROR_INVALID_VALUE
    error = refused(made(tmp_path))
    assert (error.code, "cuInit" in error.message) == ("no_runtime", True)
    assert "driver" in error.hint


@pytest.mark.parametrize("what", ["loads", "contexts", "executes"])
def test_what_tensorrt_refuses_gives_everything_back(tmp_path, device, what):
    setattr(device.gpu, what, False)
    assert refused(made(tmp_path)).code == "runtime"


@pytest.mark.parametrize("function", ["cuMemAlloc", "cuMemHostAlloc", "cuMemcpyHtoDAsync"])
def test_a_failing_driver_gives_everything_back(tmp_path, device, function):
    device.fails[function] = Status.CUDA_ERROR_INVALID_VALUE
    error = refused(made(tmp_path))
    assert (error.code, function in error.message) == ("runtime", True)


def test_what_can_not_be_captured_is_an_error(tmp_path, device):
    device.gpu.captures = False
    assert refused(made(tmp_path, "CUDA graph")).code == "runtime"


def test_an_accelerator_is_used_as_it_was_built_for(tmp_path, device):
    with made(tmp_path, dla_core=1):
        assert device.gpu.dla_core == 1
