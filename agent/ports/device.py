"""Power meters, power modes and the clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from agent.core.measurement.power import PowerSample


class PowerMeter(Protocol):
    """Samples a rail in the background while entered."""

    source: str
    """Technology, as reports show it: jtop, ina3221, nvml or rapl."""
    rail: str
    period_s: float
    most_w: float
    """A reading above it is none."""

    def __enter__(self) -> PowerMeter: ...
    def __exit__(self, *_: object) -> None: ...

    def samples(self) -> Sequence[PowerSample]:
        """Return all samples since entering, ordered by time, without duplicates."""
        ...


class PowerModes(Protocol):
    """The power modes of a board."""

    def modes(self) -> Mapping[str, str]:
        """Return all modes by name, with the reason why it can't be set now; empty if it can."""
        ...

    def current(self) -> str:
        """Return the name of the current mode.

        Raises:
            PowerError: "power_mode" if it can't be read.
        """
        ...

    def set_temporarily(self, name: str) -> AbstractContextManager[None]:
        """Set a power mode; restore the previous one on exit; verify both.

        Raises:
            PowerError: "power_mode" if it can't be set, or was changed meanwhile.
        """
        ...

    def restore(self) -> str:
        """Restore the mode that a killed process had changed; return it, "" if there is none.

        Raises:
            PowerError: "power_mode" if it can't be set.
        """
        ...


class Clock(Protocol):
    """Clocks and sleep, as a port so that tests control time."""

    def monotonic_ns(self) -> int:
        """Return the monotonic clock, ns."""
        ...

    def utc(self) -> str:
        """Return the wall clock as RFC 3339 in UTC with milliseconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Sleep for some seconds."""
        ...
