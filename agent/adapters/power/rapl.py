"""Package power of a workstation's CPU from RAPL's energy counters."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from agent.adapters.power.sampling import SampledMeter
from agent.core.errors import PowerError
from agent.core.measurement.power import PowerSample
from agent.disk import read_now, text_of

_PERIOD_S = 0.1
_MOST_W = 2000.0
"""More than any package draws: the largest CPUs of servers have a TDP of 500 W."""
_STEP_S = 0.02  # the counters count about once in a ms
_FEW = 3  # jumps that may happen


class RaplPowerMeter(SampledMeter):
    """Implements `ports.PowerMeter` on /sys/class/powercap: the sum of all CPU packages.

    The counters are of energy, so each sample is the mean power since the previous one.

    Source: Linux Documentation/power/powercap/powercap.rst; counters in uJ, which wrap around
    beyond max_energy_range_uj. In a virtual machine they may be those of now one, now another CPU:
    a step that the package can't have spent is a gap (scaphandre issue 134), and more than three
    are no sensor.

    Args:
        root: Root of the file system.
        period_s: Time between reads.

    Raises:
        PowerError: "no_sensor", or "not_allowed" where only root may read the counters.
    """

    def __init__(self, root: str = "/", period_s: float = _PERIOD_S) -> None:
        zones = {
            zone: name
            for zone in sorted(Path(root, "sys/class/powercap").glob("intel-rapl:[0-9]"))
            if (name := text_of(zone / "name")).startswith(
                "package"
            )  # "psys" includes the packages
        }
        if not zones:
            raise PowerError(
                "no RAPL counter of a package in /sys/class/powercap", code="no_sensor"
            )
        self._zones = [(zone, _number(zone / "max_energy_range_uj")) for zone in zones]
        self._jumps = 0
        super().__init__("rapl", "+".join(zones.values()), period_s, self._watts, averages=True)
        self._begin()

    def __enter__(self) -> RaplPowerMeter:
        """Start counting; the first sample needs one period."""
        self._begin()
        time.sleep(self.period_s)
        super().__enter__()
        return self

    def samples(self) -> Sequence[PowerSample]:
        """See `ports.PowerMeter`.

        Raises:
            PowerError: "jumped" if the counters jumped too often.
        """
        if self._jumps > _FEW:
            raise PowerError(
                f"the energy counter of {self.rail} jumped {self._jumps} times", code="jumped"
            )
        return super().samples()

    def _begin(self) -> None:
        self._before = [_number(zone / "energy_uj") for zone, _ in self._zones]
        self._at_ns = self._read_ns = time.monotonic_ns()

    def _watts(self) -> float:
        now = [_number(zone / "energy_uj") for zone, _ in self._zones]
        at_ns = time.monotonic_ns()
        spent_uj = [
            (after - before) % (limit + 1)  # the counter wraps around
            for after, before, (_, limit) in zip(now, self._before, self._zones, strict=True)
        ]
        seconds = (at_ns - self._at_ns) / 1e9
        self._before, self._at_ns = now, at_ns
        if max(spent_uj) > _MOST_W * (seconds + _STEP_S) * 1e6:
            self._jumps += 1
            self._read_ns = at_ns
            raise PowerError(f"the energy counter of {self.rail} jumped", code="jumped")
        return sum(spent_uj) / 1e6 / seconds


def _number(path: Path) -> int:
    try:
        return int(read_now(path))
    except PermissionError as e:
        raise PowerError(
            f"{path} may be read by root only",
            code="not_allowed",
            hint="run as root, or allow the file's group to read it",
        ) from e
    except (OSError, ValueError) as e:
        raise PowerError(f"{path}: {e}", code="gone") from e
