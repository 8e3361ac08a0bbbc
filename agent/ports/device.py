"""The machine under the engines: its power, its modes, its clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from agent.core.measurement.power import PowerSample


class PowerMeter(Protocol):
    """Samples a rail in the background while entered."""

    source: str
    """jtop, ina3221, nvml, rapl."""
    rail: str
    period_s: float

    def __enter__(self) -> PowerMeter: ...
    def __exit__(self, *_: object) -> None: ...

    def samples(self) -> Sequence[PowerSample]:
        """Return all samples since entering, ordered by time, none of them twice."""
        ...


class PowerModes(Protocol):
    """The power modes of a board."""

    def modes(self) -> Mapping[str, str]:
        """Return every mode by name, with why it can't be set now; empty if it can."""
        ...

    def current(self) -> str:
        """Return the present mode's name."""
        ...

    def set_temporarily(self, name: str) -> AbstractContextManager[None]:
        """Be in a mode until left, then in the one that was found; read back both times.

        Raises:
            PowerError: "power_mode" if it can't be set, or is another one in the end.
        """
        ...

    def restore(self) -> str:
        """Set the mode that a killed process could not go back to; return it, "" if none."""
        ...


class Clock(Protocol):
    """Time, as a port so that tests decide it."""

    def monotonic_ns(self) -> int:
        """Return the monotonic clock, ns."""
        ...

    def utc(self) -> str:
        """Return the wall clock as RFC 3339 in UTC with milliseconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...
