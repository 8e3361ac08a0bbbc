"""How ONNX Runtime is used: as it was when the engine was measured, or not at all."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.client import Release, ReleaseError
from tests.client.test_release import FRAME, SPEC, echo
from tests.support.releases import write_release

CPU, CUDA, TENSORRT = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))


class Runtime(ModuleType):
    """An ONNX Runtime with a GPU's providers, of which some do not load."""

    __version__ = "1.99"

    def __init__(self, *loads: str) -> None:
        super().__init__("onnxruntime")
        self._loads = loads
        self.asked: list[Any] = []
        self.SessionOptions = SimpleNamespace

    def get_available_providers(self) -> list[str]:
        return [TENSORRT, CUDA, CPU]

    def InferenceSession(self, engine: bytes, options: Any, providers: Any) -> Any:
        self.asked += [options, providers]
        return SimpleNamespace(
            get_providers=lambda: list(self._loads),
            get_outputs=lambda: [SimpleNamespace(name="y")],
            run=lambda names, inputs: [np.zeros((1, 3, 12, 16), np.float32)],
        )


def released(tmp_path: Path, **runtime: Any) -> Release:
    return Release(write_release(tmp_path / "r", echo(tmp_path / "m.onnx"), SPEC, runtime=runtime))


def test_providers_their_options_and_threads_are_those_of_the_release(tmp_path, monkeypatch):
    runtime = Runtime(TENSORRT, CUDA, CPU)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    options = {TENSORRT: {"trt_int8_enable": "True"}}
    with released(
        tmp_path, providers=[TENSORRT, CPU], provider_options=options, threads=3
    ) as release:
        release(FRAME)
    given, providers = runtime.asked
    assert given.intra_op_num_threads == 3
    assert providers == [(TENSORRT, options[TENSORRT]), (CPU, {})]


def test_a_provider_that_is_dropped_in_silence_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", Runtime(CPU))
    with (
        pytest.raises(ReleaseError, match=f"{CUDA}: it does not load here") as caught,
        released(tmp_path, providers=[CUDA, CPU]),
    ):
        pass
    assert caught.value.code == "no_runtime"


def test_a_missing_runtime_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ReleaseError, match=r"ONNX Runtime 1\.0, which can't") as caught:
        released(tmp_path).__enter__()
    assert (caught.value.code, bool(caught.value.hint)) == ("no_runtime", True)
