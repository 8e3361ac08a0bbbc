"""A workstation's energy counters under /sys/class/powercap, as ordinary files.

Source: Linux Documentation/power/powercap/powercap.rst.
"""

from __future__ import annotations

from pathlib import Path


class Counters:
    """Zones by name, intel-rapl:0 on; they count only on request."""

    range_uj = 262_143_328_850  # as of present CPUs

    def __init__(self, root: Path, *names: str) -> None:
        folder = root / "sys/class/powercap"
        self.zones = [folder / f"intel-rapl:{index}" for index in range(len(names))]
        self._spent_uj = 0
        for zone, name in zip(self.zones, names, strict=True):
            zone.mkdir(parents=True)
            (zone / "name").write_text(f"{name}\n")
            (zone / "max_energy_range_uj").write_text(f"{self.range_uj}\n")
        self.spend(0)

    def spend(self, energy_uj: int) -> None:
        """Add energy to every zone; a counter wraps at its range."""
        self._spent_uj += energy_uj
        for zone in self.zones:
            path = zone / "energy_uj"
            text = f"{self._spent_uj % (self.range_uj + 1):015d}\n"
            with path.open("r+" if path.exists() else "w") as file:  # in place: never half
                file.write(text)

    def vanish(self) -> None:
        for zone in self.zones:
            (zone / "energy_uj").rename(zone / "energy_uj.gone")
