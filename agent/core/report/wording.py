"""A report in words, for page and terminal: conditions, unknown figures, escaped text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from agent.core.frames.input_spec import InputSpec, Interpolation
from agent.core.frames.pixels import describe
from agent.core.records import FP32
from agent.core.report.figures import FIGURES, at


def headline(report: Mapping[str, Any]) -> str:
    """Return the answer in one sentence, also of an earlier version's report."""
    found = report.get("headline")
    if found:
        return str(found)
    why = report["choice"]["why"]
    return f"Nothing fits: {why}" if report["choice"]["infeasible"] else str(why)


def model_input(report: Mapping[str, Any]) -> str:
    """Return what an application must feed; empty if an earlier version did not report it."""
    found = report.get("input")
    if not found:
        return ""
    known = {field.name: found[field.name] for field in fields(InputSpec) if field.name in found}
    resize = Interpolation(**known.pop("interpolation", {}))
    return describe(InputSpec(**known, interpolation=resize))


def circumstances(candidate: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """Return the conditions of a candidate's figures; empty if it was not measured.

    Args:
        candidate: As in report.json; keys that an earlier version did not write may be absent.
        environment: The report's, for the power mode of a candidate without one of its own.
    """
    measured = candidate["measured"]
    if not measured:
        return ""
    words = [f"{measured['samples']} inferences in {measured['rounds']} rounds"]
    mode = candidate["power_mode"] or environment.get("power_mode")
    if mode:
        words.append(f"power mode {mode}")
    if measured.get("temp_c") is not None:
        words.append(f"up to {measured['temp_c']:.0f} °C")
    words += [
        f"{what} {_clocks(measured[key])}"
        for what, key in (("CPU", "cpu_mhz"), ("GPU", "gpu_mhz"))
        if measured.get(key)
    ]
    if measured.get("launched"):
        words.append(f"{measured['launched']} ({measured['launched_reason']})")
    if measured["power_w"]:
        words.append(_power(measured["power_w"]))
    paced = (measured.get("at_rate") or {}).get("power_w")
    if paced:
        words.append(f"at the frame rate {_power(paced)}")
    return ", ".join(words)


def still_scene(calibration: Mapping[str, Any]) -> str:
    """Return what is to be known of frames that are nearly the same; empty if all are distinct.

    Args:
        calibration: As in report.json; keys that an earlier version did not write may be absent.
    """
    distinct, kept = calibration.get("distinct"), calibration["frames"] + calibration["holdout"]
    if distinct is None or distinct >= kept:
        return ""
    return (
        f"only {distinct} of {kept} frames differ by more than noise: the scene was still, so "
        "fidelity is judged on frames that are nearly those of the calibration"
    )


def given_integers(report: Mapping[str, Any]) -> str:
    """Return what a quantized file has, and what fidelity is judged by; empty for a float file.

    Args:
        report: As in report.json; keys that an earlier version did not write may be absent.
    """
    found = report["model"].get("quantized")
    if not found:
        return ""
    beside = report["model"]["baseline"] == FP32
    judged = "FP32 made of it" if beside else "itself, since no FP32 can be made of it exactly"
    return f"the file is quantized already ({found}); fidelity is judged by {judged}"


def intake(model: Mapping[str, Any]) -> str:
    """Return how far the clean graph is from the user's file; empty if an earlier version wrote it.

    Args:
        model: As in report.json.
    """
    found = model.get("intake")
    if not found:
        return ""
    if found["reason"]:
        return f"not compared with the model file: {found['reason']}"
    if not found["relative"]:
        return f"computes what the model file does, on {found['frames']} frames"
    return (
        f"computes what the model file does, on {found['frames']} frames: output {found['output']} "
        f"differs by {found['relative']:.1g} of its magnitude ({found['tolerance']:.1g} is rounding)"
    )


def floor(report: Mapping[str, Any]) -> str:
    """Return the fidelity floor of a run; empty if an earlier version did not report it."""
    found = report.get("floor")
    if not found:
        return ""
    name = f"limits.{found['limit']}"
    if not found["bound"]:
        return f"none: {name} = 0"
    return f"{name} = {found['bound']:g}{', the default' if found['default'] else ''}"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A figure that is unknown of some candidates, and why."""

    what: str
    reason: str
    candidates: tuple[str, ...]


def unknowns(candidates: Sequence[Mapping[str, Any]]) -> tuple[Unknown, ...]:
    """Return what is null in candidates for a reason, each reason once.

    Args:
        candidates: As in report.json; keys that an earlier version did not write may be absent.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for figure in FIGURES:
        for one in candidates:
            reason = at(one, figure.reason)
            if reason and at(one, figure.value) is None:
                found.setdefault((figure.name, reason), []).append(one["id"])
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (what, reason), ids in found.items():
        alike.setdefault((reason, tuple(ids)), []).append(what)
    return tuple(
        Unknown(what=", ".join(names), reason=reason, candidates=ids)
        for (reason, ids), names in alike.items()
    )


def escape_unprintable(text: str) -> str:
    r"""Return a text with unprintable characters written as escapes: `\x1b`, `\udce9`.

    A terminal obeys control characters, a page breaks on lone surrogates (file names that are
    not UTF-8), and either shows bidirectional overrides as if the text were another. Spaces,
    tabs and line ends stay.
    """
    if text.isprintable():
        return text
    return "".join(
        one
        if one.isprintable() or one in "\n\t" or (one.isspace() and ord(one) > 0x9F)
        else one.encode("unicode_escape").decode("ascii")
        for one in text
    )
