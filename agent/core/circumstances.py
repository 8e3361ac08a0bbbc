"""Under which conditions a candidate of a report was measured, in words: for page and terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def circumstances(candidate: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """Return the conditions of a candidate's figures; empty if it was not measured.

    Args:
        candidate: As in report.json; keys that an earlier version did not write may be absent.
        environment: The report's, for the power mode of a candidate without one of its own.
    """
    measured = candidate["measured"]
    if not measured:
        return ""
    told = [f"{measured['samples']} inferences in {measured['rounds']} rounds"]
    mode = candidate["power_mode"] or environment.get("power_mode")
    if mode:
        told.append(f"power mode {mode}")
    if measured.get("temp_c") is not None:
        told.append(f"up to {measured['temp_c']:.0f} °C")
    told += [
        f"{what} {_clocks(measured[key])}"
        for what, key in (("CPU", "cpu_mhz"), ("GPU", "gpu_mhz"))
        if measured.get(key)
    ]
    if measured.get("launched"):
        told.append(f"{measured['launched']} ({measured['launched_reason']})")
    if measured["power_w"]:
        told.append(_power(measured["power_w"]))
    paced = (measured.get("at_rate") or {}).get("power_w")
    if paced:
        told.append(f"at the frame rate {_power(paced)}")
    return ", ".join(told)


def _clocks(mhz: Sequence[float]) -> str:
    low, high = (f"{one:.0f}" for one in mhz)
    return f"{low} MHz" if low == high else f"{low} to {high} MHz"


def _power(power: Mapping[str, Any]) -> str:
    every = f" every {power['period_s']:g} s" if power.get("period_s") else ""
    silent = f", silent {power['gaps']} times" if power.get("gaps") else ""
    return (
        f"power of {power['rail']} by {power['source']}{every} "
        f"({power['samples']} samples over {power['coverage']:.0%} of the windows{silent})"
    )
