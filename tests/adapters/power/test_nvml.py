"""The power meter over NVML, with a library in NVML's place: machines with a GPU are few."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from agent.adapters.power.nvml import NvmlPowerMeter
from agent.core.errors import PowerError


class Library(ModuleType):
    """The functions of nvidia-ml-py that the meter calls; the one named in `fails` fails."""

    class NVMLError(Exception):
        pass

    def __init__(self, fails: str = "") -> None:
        super().__init__("pynvml")
        self.fails = fails
        self.open = 0

    def _call(self, name: str) -> None:
        if name == self.fails:
            raise self.NVMLError("Not Supported")

    def nvmlInit(self) -> None:
        self._call("init")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        self._call("device")
        return index

    def nvmlDeviceGetName(self, device: int) -> str:
        return "Orin"

    def nvmlDeviceGetPowerUsage(self, device: int) -> int:
        self._call("power")
        return 61_250


@pytest.mark.parametrize("fails", ["init", "device", "power"])
def test_gpu_without_a_power_reading_is_no_sensor_and_is_released(
    monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    library = Library(fails)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    with pytest.raises(PowerError, match="NVML: Not Supported") as caught:
        NvmlPowerMeter()
    assert caught.value.code == "no_sensor"
    assert library.open == 0


def test_milliwatts_are_reported_as_watts_and_the_library_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = Library()
    monkeypatch.setitem(sys.modules, "pynvml", library)
    with NvmlPowerMeter() as meter:
        assert meter.samples()[0].power_w == 61.25
        assert meter.rail == "GPU board (Orin)"
        assert library.open == 1
    assert library.open == 0


def test_gpu_that_fails_at_entering_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setitem(sys.modules, "pynvml", library)
    meter = NvmlPowerMeter()
    library.fails = "power"
    with pytest.raises(PowerError), meter:
        pass
    assert library.open == 0
