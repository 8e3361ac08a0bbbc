"""Board power of a desktop or data-centre GPU, from NVML."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from agent.core.errors import PowerError
from agent.live.sampling import SampledMeter

_PERIOD_S = 0.1


class NvmlPowerMeter(SampledMeter):
    """Implements `ports.PowerMeter` on the first GPU that NVML sees.

    Raises:
        PowerError: "no_sensor" if there is no NVML, no GPU, or it doesn't tell its power.
    """

    def __init__(self) -> None:
        try:
            nvml: Any = import_module("pynvml")
        except ImportError as e:
            raise PowerError(
                "nvidia-ml-py is not installed", code="no_sensor", hint="pip install nvidia-ml-py"
            ) from e

        def watts() -> float:
            try:
                return float(nvml.nvmlDeviceGetPowerUsage(device)) / 1e3
            except nvml.NVMLError as e:
                raise PowerError(f"NVML: {e}", code="gone") from e

        try:
            nvml.nvmlInit()
            device = nvml.nvmlDeviceGetHandleByIndex(0)
            name = nvml.nvmlDeviceGetName(device)
        except nvml.NVMLError as e:
            raise PowerError(f"NVML: {e}", code="no_sensor") from e
        super().__init__("nvml", f"GPU board ({name})", _PERIOD_S, watts)
