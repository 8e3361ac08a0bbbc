"""Board power of a desktop or data-centre GPU, from NVML."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from agent.adapters.power.sampling import SampledMeter
from agent.core.errors import PowerError
from agent.packages import pip_install

_PERIOD_S = 0.1


class NvmlPowerMeter(SampledMeter):
    """Implements `ports.PowerMeter` on the first GPU that NVML sees.

    Source: NVML API reference, nvmlDeviceGetPowerUsage: mW, +/- 5 %; since Ampere (but for
    GA100) the mean of the last second, so that short windows include power from before them.

    Args:
        period_s: Time between reads.

    Raises:
        PowerError: "no_sensor" without NVML, a GPU, or its power reading.
    """

    def __init__(self, period_s: float = _PERIOD_S) -> None:
        try:
            nvml: Any = import_module("pynvml")
        except ImportError as e:
            raise PowerError(
                "nvidia-ml-py is not installed", code="no_sensor", hint=pip_install("nvidia-ml-py")
            ) from e

        def watts() -> float:
            try:
                return float(nvml.nvmlDeviceGetPowerUsage(device)) / 1e3
            except nvml.NVMLError as e:
                raise PowerError(f"NVML: {e}", code="gone") from e

        try:
            nvml.nvmlInit()
        except nvml.NVMLError as e:
            raise PowerError(f"NVML: {e}", code="no_sensor") from e
        try:
            device = nvml.nvmlDeviceGetHandleByIndex(0)
            name = nvml.nvmlDeviceGetName(device)
            nvml.nvmlDeviceGetPowerUsage(device)
        except nvml.NVMLError as e:
            nvml.nvmlShutdown()
            raise PowerError(f"NVML: {e}", code="no_sensor") from e
        self._shut_down: Callable[[], object] = nvml.nvmlShutdown
        super().__init__("nvml", f"GPU board ({name})", period_s, watts)

    def __enter__(self) -> NvmlPowerMeter:
        try:
            super().__enter__()
        except PowerError:
            self._shut_down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._shut_down()
