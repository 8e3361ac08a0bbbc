"""What page and terminal show first: what the run was, four figures, the order of candidates.

Reports are as in report.json; keys that an earlier version did not write may be absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.core.report.figures import Row, at

_BASELINES = {"fp32": "FP32", "as-given": "the file as given"}
_RANK = {"chosen": 0, "feasible": 2, "rejected": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFigure:
    """One of the four figures that a run is judged by.

    Attributes:
        value: With its unit; a dash where it is unknown.
        name: Of the figure, with that of the baseline beside it.
        detail: Intervals and limits, or why it is unknown.
        good: Whether it is better than the baseline's beyond the noise, or keeps its limit so.
    """

    value: str
    name: str
    detail: str
    good: bool = False


def occasion(report: Mapping[str, Any]) -> str:
    """Return which model on which device, when, and what became of the choice."""
    activation = report["activation"]
    state = activation["state"].replace("_", " ")
    release = f", release {activation['release']}" if activation["release"] else ""
    detail = f" ({activation['detail']})" if activation.get("detail") else ""
    when = report["finished"][:16].replace("T", " ") + " UTC"
    activated = f"{state}{release}{detail}"
    return " · ".join((report["model"]["name"], report["device"], when, activated))


def display_order(report: Mapping[str, Any]) -> list[Row]:
    """Return the candidates: the chosen one, what it is compared with, feasible ones, the others."""
    baseline = compared_with(report)
    name = baseline["id"] if baseline else None

    def rank(one: Row) -> tuple[int, bool]:
        first = 1 if one["id"] == name and one["verdict"] != "chosen" else _RANK[one["verdict"]]
        return first, one["measured"] is None

    return sorted(report["candidates"], key=rank)


def chosen(report: Mapping[str, Any]) -> Row | None:
    """Return the chosen candidate."""
    name = report["choice"]["candidate"]
    return next((one for one in report["candidates"] if one["id"] == name), None)


def compared_with(report: Mapping[str, Any]) -> Row | None:
    """Return the baseline in the batch and power mode of the chosen candidate, or in any."""
    precision = report["model"].get("baseline", "fp32")
    found = [one for one in report["candidates"] if one["precision"] == precision]
    mine = chosen(report)
    alike = [
        one
        for one in found
        if mine and (one["batch"], one["power_mode"]) == (mine["batch"], mine["power_mode"])
    ]
    return next(iter(alike), None) if mine else next(iter(found), None)


def key_figures(report: Mapping[str, Any]) -> tuple[KeyFigure, ...]:
    """Return the four figures of the chosen candidate; none where nothing was chosen."""
    mine = chosen(report)
    if mine is None or mine["measured"] is None:
        return ()
    found = compared_with(report)
    other = found if found and found is not mine and found["measured"] else None
    name = _BASELINES.get(report["model"].get("baseline", "fp32"), "FP32")
    return (
        _latency(mine, other, name),
        _fidelity(mine, report["limits"], name, baseline=mine is found),
        _memory(mine, other, name),
        _energy(mine, other, name),
    )


def _latency(mine: Row, other: Row | None, name: str) -> KeyFigure:
    latency = mine["measured"]["latency_ms"]
    span = latency["ci95_p50"]
    its = other["measured"]["latency_ms"] if other else None
    batch = f" of a batch of {mine['batch']}" if mine["batch"] > 1 else ""
    beside = f", {name} {its['p50']:.3g} ms" if its else ""
    detail = [f"95 % interval {span[0]:.3g} to {span[1]:.3g} ms"] if span else []
    detail += [f"p99 {latency['p99']:.3g} ms", _rate(mine["measured"]["throughput_fps"])]
    its_span = its["ci95_p50"] if its else None
    return KeyFigure(
        value=f"{latency['p50']:.3g} ms",
        name=f"median{batch}{beside}",
        detail=" · ".join(detail),
        good=bool(span and its_span and span[1] < its_span[0]),
    )


def _fidelity(mine: Row, limits: Mapping[str, float], name: str, *, baseline: bool) -> KeyFigure:
    found = mine["fidelity"]
    if not found:
        return KeyFigure(value="–", name=f"fidelity to {name}", detail="it was not evaluated")
    agreement, span = found.get("agreement"), found.get("agreement_ci95")
    frames = found.get("judged_frames") or found["frames"]
    if agreement is not None:
        limit = limits.get("agreement", 0.0)
        detail = ["the others are compared with it"] if baseline else [found["summary"]]
        detail.append(_accuracy(found, name))
        if span:
            detail.append(f"95 % interval {100 * span[0]:.3g} to {100 * span[1]:.3g} %")
        detail.append(f"{frames} frames")
        if limit:
            detail.append(f"limit {100 * limit:.3g} %")
        return KeyFigure(
            value=f"{100 * agreement:.3g} %",
            name=f"agreement with {name}",
            detail=" · ".join(filter(None, detail)),
            good=bool(limit and (span[0] if span else agreement) >= limit and not baseline),
        )
    sqnr, limit = found["sqnr_db"], limits.get("sqnr_db", 0.0)
    if sqnr is None:
        return KeyFigure(value="exact", name=f"outputs of {name}", detail=found["sqnr_reason"])
    span = found.get("sqnr_db_ci95")
    detail = [f"95 % interval {span[0]:.3g} to {span[1]:.3g} dB"] if span else []
    detail += [f"{frames} frames", *([f"limit {limit:.3g} dB"] if limit else [])]
    return KeyFigure(
        value=f"{sqnr:.1f} dB",
        name=f"SQNR of the worst channels against {name}",
        detail=" · ".join([*detail, found.get("agreement_reason") or ""]).rstrip(" ·"),
        good=bool(limit and (span[0] if span else sqnr) >= limit),
    )


def _accuracy(found: Row, name: str) -> str:
    """Return the accuracy against labels; empty if there are none."""
    own, its = (at(found, f"task.{key}") for key in ("accuracy", "baseline_accuracy"))
    if own is None:
        return ""
    beside = f", {name} {100 * its:.3g} %" if its is not None else ""
    return f"accuracy {100 * own:.3g} %{beside}, on {found['labelled']} labelled frames"


def _memory(mine: Row, other: Row | None, name: str) -> KeyFigure:
    memory_mb = mine["measured"]["memory_mb"]
    its = at(other or {}, "measured.memory_mb")
    size = at(mine, "engine.bytes")
    file = f"engine file {_size(size)}" if size is not None else ""
    if memory_mb is None:
        return KeyFigure(value="– MB", name="memory is not known",
                         detail=" · ".join(filter(None, (mine["measured"]["memory_reason"], file))))  # fmt: skip
    beside = f", {name} {its:.0f} MB" if its is not None else ""
    return KeyFigure(value=f"{memory_mb:.0f} MB", name=f"memory{beside}", detail=file)


def _energy(mine: Row, other: Row | None, name: str) -> KeyFigure:
    """Return the energy of a frame, at the application's rate where it was measured at one."""
    load, its = (
        at(one or {}, "measured.at_rate") or at(one or {}, "measured") for one in (mine, other)
    )
    if load["energy_j"] is None:
        reason = load["energy_reason"].split(" (", maxsplit=1)[0]
        return KeyFigure(value="– W", name="power was not measured",
                         detail=f"{reason}; quantd doctor lists the sensors")  # fmt: skip
    its_j = at(its or {}, "energy_j")
    beside = f", {name} {_joules(its_j)}" if its_j is not None else ""
    span, its_span = load.get("energy_j_ci95"), at(its or {}, "energy_j_ci95")
    power = load["power_w"]
    rate = f" at {load['rate_fps']:g} FPS" if "rate_fps" in load else ""
    detail = [f"95 % interval {_joules(span[0])} to {_joules(span[1])}"] if span else []
    detail += [f"{power['mean']:.2f} W on {power['rail']}{rate}"] if power else []
    return KeyFigure(
        value=_joules(load["energy_j"]),
        name=f"energy of a frame{beside}",
        detail=" · ".join(detail),
        good=bool(span and its_span and span[1] < its_span[0]),
    )


def _rate(fps: float) -> str:
    return f"{fps:.0f} FPS" if fps >= 100 else f"{fps:.3g} FPS"


def _joules(value: float) -> str:
    return f"{1e3 * value:.3g} mJ" if value < 1 else f"{value:.3g} J"


def _size(count: int) -> str:
    return f"{count / 1e6:.3g} MB" if count >= 1e5 else f"{count / 1e3:.3g} kB"
